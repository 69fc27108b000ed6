"""RabbitMQ's definitions JSON, in and out: what may stand in a document is in documents.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waybill.errors import InputError, TopologyError
from waybill.topology import Binding, Exchange, Queue, Topology
from waybill.topology.documents import MAX_NESTING, OPERATOR_POLICY, contents, is_too_deep, used_vhosts
from waybill.topology.fields import plain


def read_definitions(path: str | Path, vhost: str | None = None) -> Topology:
    """The topology in a definitions file.

    Raises:
        InputError: the file can't be read, isn't JSON, isn't of the shape, or holds what RabbitMQ would refuse; in one
            line with its name.
    """
    return named_definitions(read_document(path), vhost, str(path))


def named_definitions(data: object, vhost: str | None, where: str) -> Topology:
    """As `from_definitions`; RabbitMQ's refusals name the document, too."""
    try:
        return from_definitions(data, vhost, where=where)
    except TopologyError as error:
        raise InputError(f"{where}: {error.reply_code} {error}") from error


def read_document(path: str | Path) -> object:
    """The parsed JSON of a definitions file.

    Raises:
        InputError: the file can't be read or isn't JSON; in one line with its name.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if is_too_deep(document):
        raise InputError(f"{path}: nested more than {MAX_NESTING} deep")
    return document


def from_definitions(data: object, vhost: str | None = None, *, where: str = "definitions") -> Topology:
    """The topology of one vhost in a definitions document.

    Args:
        data: the parsed JSON.
        vhost: which one, where there are several; by default `/`, or else the only one there is.
        where: what to call the document in errors.

    Raises:
        InputError: something isn't of the shape: what, where, got, expected.
        UnknownName: no such vhost in it.
        TopologyError: RabbitMQ would refuse what stands in it.
    """
    return Topology(*contents(data, vhost, where))


def all_topologies(data: object, *, where: str = "definitions") -> list[Topology]:
    """The topologies of all vhosts in a definitions document.

    Raises:
        InputError: it isn't of the shape, or holds what RabbitMQ would refuse; in one line with `where`.
    """
    names: list[str] = sorted(used_vhosts(data, where)) if isinstance(data, Mapping) else []
    return [named_definitions(data, name, where) for name in names or (None,)]


def left_out(data: object, vhost: str | None = None) -> list[str]:
    """What a definitions document holds that would change a message's way and is no part of a topology, in words.

    Args:
        vhost: only what is of this one.
    """
    # Federation upstreams and shovels, for two.
    others = [one for one in _objects(data, "parameters", vhost) if one.get("component") != OPERATOR_POLICY]
    types = {one.get("name"): one.get("type") for one in _objects(data, "exchanges", vhost)}
    direct = {"amq.direct", *(name for name, kind in types.items() if kind == "direct")}
    bindings = _objects(data, "bindings", vhost)
    keyless = [one for one in bindings if one.get("routing_key") is None and one.get("source") in direct]
    told = {"parameters": others, "bindings without a routing key, which no message matches": keyless}
    return [f"{what} ({len(found)})" for what, found in told.items() if found]


def _objects(data: object, section: str, vhost: str | None) -> list[Mapping[str, Any]]:
    entries = data.get(section) if isinstance(data, Mapping) else None
    found = [one for one in entries if isinstance(one, Mapping)] if isinstance(entries, list) else []
    return found if vhost is None else [one for one in found if one.get("vhost", vhost) == vhost]


def to_definitions(topology: Topology) -> dict[str, Any]:
    """A definitions document that RabbitMQ imports: for its vhost alone and for the broker alike.

    Exclusive queues are left out, with the bindings to them: they end with their connection.

    Raises:
        InputError: a void argument, for which this JSON has no place (RabbitMQ: `null_not_allowed`).
    """
    at = {"vhost": topology.vhost}
    kept = {queue.name for queue in topology.queues if not queue.exclusive}
    return {
        "vhosts": [{"name": topology.vhost}],
        "exchanges": [_from_exchange(exchange) | at for exchange in topology.exchanges],
        "queues": [_from_queue(queue) | at for queue in topology.queues if queue.name in kept],
        "bindings": [
            _from_binding(binding) | at
            for binding in topology.bindings
            if binding.destination_type == "exchange" or binding.destination in kept
        ],
    }


def _from_exchange(exchange: Exchange) -> dict[str, Any]:
    return {
        "name": exchange.name,
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": _arguments(exchange.arguments, f"exchange '{exchange.name}'"),
    }


def _from_queue(queue: Queue) -> dict[str, Any]:
    return {
        "name": queue.name,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": _arguments(queue.arguments, f"queue '{queue.name}'"),
    }


def _from_binding(binding: Binding) -> dict[str, Any]:
    return {
        "source": binding.source,
        "destination": binding.destination,
        "destination_type": binding.destination_type,
        "routing_key": binding.binding_key,
        "arguments": _arguments(binding.arguments, f"binding from '{binding.source}' to '{binding.destination}'"),
    }


def _arguments(arguments: Mapping[str, Any], whose: str) -> Any:
    for name, value in arguments.items():
        if value is None:
            raise InputError(f"{whose}: argument '{name}' is void, and definitions JSON cannot say so")
    return plain(arguments)
