"""DECLARE: every exchange, queue and binding of the showcase, one file for each kind of routing.

Only Kombu declarations stand here. A worker declares the queues that it consumes, with their exchanges and bindings;
what no queue mentions (an exchange bound to another exchange, an alternate exchange) is declared by `declare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from kombu import Connection, Exchange, Queue

from exchanges import (
    alternate,
    deadletter,
    default,
    direct,
    fanout,
    forward,
    headers,
    lanes,
    plugins,
    priority,
    reliability,
    topic,
)

KINDS: tuple[ModuleType, ...] = (
    default,
    direct,
    topic,
    fanout,
    headers,
    priority,
    alternate,
    deadletter,
    forward,
    plugins,
    lanes,
    reliability,
)

QUEUES: tuple[Queue, ...] = tuple(queue for kind in KINDS for queue in kind.QUEUES)
EXCHANGES: tuple[Exchange, ...] = tuple(exchange for kind in KINDS for exchange in kind.EXCHANGES)
# Destination exchange -> the bindings that feed it from other exchanges.
EXCHANGE_BINDINGS: dict[Exchange, tuple[Any, ...]] = forward.EXCHANGE_BINDINGS


# Every type of exchange that stands in these files.
TYPES = frozenset(exchange.type for exchange in EXCHANGES)


def queues_without(exchange_types: Iterable[str]) -> Iterator[Queue]:
    """The queues that can be declared on a broker which lacks these exchange types."""
    missing = set(exchange_types)
    return (queue for queue in QUEUES if queue.exchange.type not in missing)


def declare(connection: Connection, missing_types: Iterable[str] = ()) -> None:
    """Declare everything; what is there already, with the same properties, is left as it is.

    Args:
        connection: an open or lazy connection to the broker.
        missing_types: exchange types that this broker doesn't know; what stands on them is left out.

    Raises:
        amqp.exceptions.PreconditionFailed: something of that name lives with other properties.
    """
    missing = set(missing_types)
    with connection.channel() as channel:
        for exchange in EXCHANGES:
            if exchange.type not in missing:
                exchange(channel).declare()
        for queue in queues_without(missing):
            # A Broadcast queue belongs to the worker that consumes it, and goes when that worker goes.
            if queue not in fanout.BROADCASTS:
                queue(channel).declare()
        # Kombu's virtual transports, such as Redis, have no bindings between exchanges.
        bindable = EXCHANGE_BINDINGS if connection.transport.driver_type == "amqp" else {}
        for destination, bindings in bindable.items():
            for binding in bindings:
                binding.declare(channel)
                binding.bind(destination(channel))
