"""Nodes and edges: how they are called, and which belong to the machinery and not to the application."""

from __future__ import annotations

import re

from waybill.topology import Binding

PUBLISHER, EXCHANGE, QUEUE, WORKER = "publisher", "exchange", "queue", "worker"
KINDS = (PUBLISHER, EXCHANGE, QUEUE, WORKER)

_MACHINERY = re.compile(
    r"waybill\.live\..*|celeryev(\..*)?|.*\.?celery\.pidbox|reply\.celery\.pidbox|amq\.(?!gen-).*|celery_delayed_\d+|celery_delayed_delivery"
)
"""Remote control, events, native delay, and RabbitMQ's own exchanges."""

TAP = "waybill.live."
"""How the queue begins that the firehose's copies come by."""

OWN_TASKS = "waybill."
"""How the names of tasks begin by which `Watch` asks whether all has come."""

PIDBOX = ".celery.pidbox"
"""How the queue ends on which a worker hears remote control; before it stands its node name."""


def is_machinery(name: str) -> bool:
    """Whether an exchange or a queue belongs to Celery's or RabbitMQ's own traffic."""
    return _MACHINERY.fullmatch(name) is not None


def peer(connection: str) -> str:
    """The client's end of a connection's name: what a consumer or publisher is called of whom no more is known."""
    return connection.partition(" -> ")[0]


def node(kind: str, name: str) -> str:
    """A node's id."""
    return f"{kind}:{name}"


def published(publisher: str, exchange: str) -> str:
    """The edge from a publisher to an exchange."""
    return f"publish {publisher}>{exchange}"


def bound(binding: Binding) -> str:
    """The edge of a binding; those between the same two ends with the same key are one."""
    return f"{binding.destination_type} {binding.source}>{binding.destination}:{binding.binding_key}"


def alternate(exchange: str, other: str) -> str:
    """The edge to an alternate exchange."""
    return f"alternate {exchange}>{other}"


def dead_lettered(queue: str, exchange: str) -> str:
    """The edge from a queue to its dead-letter exchange."""
    return f"dead_letter {queue}>{exchange}"


def consumed(queue: str, worker: str) -> str:
    """The edge from a queue to a worker."""
    return f"consume {queue}>{worker}"
