"""What is durable, as a document, so that a broker can begin with what another one left.

Definitions as RabbitMQ exports them, and beside them the messages that would survive a restart. Policies are no part of
it, nor what exchanges of type `x-recent-history` remember and `x-delayed-message` holds back.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

from waybill.broker.message import Death, Message
from waybill.broker.node import Node
from waybill.broker.queue import Queue
from waybill.broker.ready import Entry
from waybill.broker.tables import short_string
from waybill.broker.vhost import VHost
from waybill.errors import InputError, TopologyError
from waybill.topology import PREDECLARED
from waybill.topology.definitions import from_definitions, to_definitions

VERSION = 1

_PLAIN = ("exchange", "routing_key", "priority", "expiration", "failures", "first_size")
_DEATH = ("queue", "reason", "exchange", "first", "expiration", "count")


def dump(node: Node) -> dict[str, Any]:
    """What is durable in all vhosts."""
    clock = node.clock
    return {
        "waybill": VERSION,
        "vhosts": [_dump_vhost(vhost, clock.wall - clock.now) for vhost in node.vhosts.values()],
    }


def load(node: Node, document: Any, where: str) -> None:
    """Have what a document holds in a node without vhosts.

    Args:
        where: what to call the document in errors.

    Raises:
        InputError: it is no such document.
    """
    if not isinstance(document, dict) or document.get("waybill") != VERSION:
        raise InputError(f"{where}: expected what a waybill broker has saved, version {VERSION}")
    try:
        for saved in document["vhosts"]:
            topology = from_definitions(saved["definitions"], where=where)
            vhost = node.vhost(topology.vhost)
            vhost.load(topology)
            for name, entries in saved["messages"].items():
                for entry in entries:
                    _restore(vhost.queues[name], entry, node.clock.now - node.clock.wall)
    except (KeyError, TypeError, ValueError, TopologyError) as error:
        raise InputError(f"{where}: {error!r}, expected what a waybill broker has saved") from None


def _dump_vhost(vhost: VHost, wall: float) -> dict[str, Any]:
    topology = vhost.router.topology()
    exchanges = tuple(one for one in topology.exchanges if one.durable)
    queues = tuple(one for one in topology.queues if one.durable and not one.exclusive)
    kept = {*(("exchange", one.name) for one in exchanges), *(("queue", one.name) for one in queues)}
    kept |= {("exchange", name) for name in PREDECLARED}
    bindings = tuple(
        one for one in topology.bindings if {("exchange", one.source), (one.destination_type, one.destination)} <= kept
    )
    durable = replace(topology, exchanges=exchanges, queues=queues, bindings=bindings)
    messages = {
        one.name: [_dump_entry(entry, wall) for entry in vhost.queues[one.name].durable_entries()] for one in queues
    }
    return {"definitions": to_definitions(durable), "messages": messages}


def _dump_entry(entry: Entry, wall: float) -> dict[str, Any]:
    message = entry.message
    return {
        **{name: getattr(message, name) for name in _PLAIN},
        "header": b64encode(message.header).decode(),
        "body": b64encode(message.body).decode(),
        "keys": message.keys,
        "hidden": message.hidden,
        "deaths": [{**{name: getattr(death, name) for name in _DEATH}, "keys": death.keys} for death in message.deaths],
        "acquired": entry.acquired,
        "expires": None if entry.expires_at is None else entry.expires_at + wall,
    }


def _restore(queue: Queue, saved: dict[str, Any], clock: float) -> None:
    """Put a saved message back; its time has gone on."""
    exchange, key = saved["exchange"], saved["routing_key"]
    message = Message(
        header=b64decode(saved["header"], validate=True),
        body=b64decode(saved["body"], validate=True),
        address=short_string(exchange) + short_string(key),
        keys=None if saved["keys"] is None else tuple(saved["keys"]),
        hidden=tuple(saved["hidden"]),
        deaths=tuple(
            Death(**{name: death[name] for name in _DEATH}, keys=tuple(death["keys"])) for death in saved["deaths"]
        ),
        **{name: saved[name] for name in _PLAIN},
    )
    expires = saved["expires"]
    queue.restore(message, saved["acquired"], None if expires is None else expires + clock)
