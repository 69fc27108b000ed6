"""What a vhost holds: exchanges, queues and the bindings between them.

    Exchange ──Binding──▶ Queue          a message enters at an exchange and leaves it along the bindings
        └──────Binding──▶ Exchange       that match; see `waybill.matching`, `waybill.routing`

A `Topology` is checked when it is built, by the rules in declarations.py: one that exists is one that
RabbitMQ would have accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from waybill.topology.declarations import Declarations
from waybill.topology.documents import contents
from waybill.topology.policies import NO_POLICIES, Policies
from waybill.topology.values import (
    DEFAULT_EXCHANGE,
    DEFAULT_VHOST,
    PREDECLARED,
    Binding,
    DestinationType,
    Exchange,
    Message,
    Queue,
)

__all__ = [
    "DEFAULT_EXCHANGE",
    "DEFAULT_VHOST",
    "PREDECLARED",
    "Binding",
    "DestinationType",
    "Exchange",
    "Message",
    "Queue",
    "Topology",
]


@dataclass(frozen=True)
class Topology:
    """The exchanges, queues and bindings of a vhost, checked: RabbitMQ would have accepted them.

    Repeated equal declarations are kept once, in the order of the first; the predeclared exchanges are not
    listed, though `exchange()` knows them. Two topologies are equal when they hold the same, in any order.

    Args:
        vhost: named in RabbitMQ's refusals.
        default_queue_type: the type of queues that name none, where their other properties allow it.
        policies: applied to the exchanges and queues.

    Raises:
        TopologyError: a declaration that RabbitMQ refuses, in its own words.

    Example:
        >>> from waybill import Topology
        >>> topology = Topology.from_definitions({
        ...     "exchanges": [{"name": "news", "type": "topic", "vhost": "/"}],
        ...     "queues": [{"name": "usa", "vhost": "/", "durable": True}],
        ...     "bindings": [
        ...         {"source": "news", "vhost": "/", "destination": "usa", "destination_type": "queue",
        ...          "routing_key": "usa.#", "arguments": {}},
        ...     ],
        ... })
        >>> [queue.name for queue in topology.queues]
        ['usa']
        >>> topology.exchange("news").type
        'topic'
    """

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    vhost: str = field(default=DEFAULT_VHOST, compare=False)
    default_queue_type: str = field(default="classic", compare=False)
    policies: Policies = field(default=NO_POLICIES, compare=False)

    def __init__(
        self,
        exchanges: Iterable[Exchange] = (),
        queues: Iterable[Queue] = (),
        bindings: Iterable[Binding] = (),
        vhost: str = DEFAULT_VHOST,
        default_queue_type: str = "classic",
        policies: Policies = NO_POLICIES,
    ) -> None:
        held = Declarations(vhost, default_queue_type, policies)
        for exchange in exchanges:
            held.declare_exchange(exchange, is_restored=True)
        for queue in queues:
            held.declare_queue(queue, is_restored=True)
        kept = dict.fromkeys(bindings)
        for binding in kept:
            held.check_binding(binding)
        declared = (exchange for exchange in held.exchanges.values() if exchange.name not in PREDECLARED)
        object.__setattr__(self, "exchanges", tuple(declared))
        object.__setattr__(self, "queues", tuple(held.queues.values()))
        object.__setattr__(self, "bindings", tuple(kept))
        object.__setattr__(self, "vhost", vhost)
        object.__setattr__(self, "default_queue_type", default_queue_type)
        object.__setattr__(self, "policies", policies)

    @classmethod
    def from_definitions(cls, definitions: object, vhost: str | None = None) -> Topology:
        """The topology of one vhost, from what `rabbitmqctl export_definitions` writes, parsed.

        Args:
            vhost: which one, where there are several; by default `/`, or else the only one there is.

        Raises:
            InputError: something isn't of the shape: what, where, got, expected.
            UnknownName: no such vhost in it.
            TopologyError: RabbitMQ would refuse what stands in it.
        """
        return cls(*contents(definitions, vhost, "definitions"))

    def exchange(self, name: str) -> Exchange | None:
        """The exchange of that name, predeclared ones included."""
        return self._exchange_of.get(name)

    def queue(self, name: str) -> Queue | None:
        """The queue of that name."""
        return self._queue_of.get(name)

    def bindings_from(self, exchange: str) -> tuple[Binding, ...]:
        """The bindings whose source is `exchange`, in the order they were made."""
        return tuple(binding for binding in self.bindings if binding.source == exchange)

    @cached_property
    def _exchange_of(self) -> dict[str, Exchange]:
        return {**PREDECLARED, **{exchange.name: exchange for exchange in self.exchanges}}

    @cached_property
    def _queue_of(self) -> dict[str, Queue]:
        return {queue.name: queue for queue in self.queues}

    @cached_property
    def _content(self) -> tuple[frozenset[Exchange], frozenset[Queue], frozenset[Binding]]:
        return frozenset(self.exchanges), frozenset(self.queues), frozenset(self.bindings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)
