"""Exchange, queue, binding and message, as values: frozen, hashable, equal where RabbitMQ finds them equal.

A single value may hold anything. It is checked when it is declared: in a `Topology` or on a
`Router`, both by declarations.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from waybill.topology.fields import EMPTY, FieldTable, as_table

DEFAULT_EXCHANGE = ""
DEFAULT_VHOST = "/"

QUORUM_MAX_PRIORITY = 31
"""The highest priority in a quorum queue, since RabbitMQ 4.3."""

QUORUM_DEFAULT_PRIORITY = 4
"""That of a message without one in a quorum queue; above it a message was `high` before 4.3."""

DestinationType = Literal["queue", "exchange"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange as `exchange.declare` describes it.

    Args:
        type: `direct`, `fanout`, `topic`, `headers`, or a plugin's (`x-consistent-hash`, ...).
        internal: no client may publish to it, only other exchanges.
        arguments: `alternate-exchange`, or what a plugin's type asks for.
        policy: what the broker's policies set beside them; no part of the declaration, and never compared.
    """

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = EMPTY
    policy: Mapping[str, Any] = field(default=EMPTY, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", as_table(self.arguments))

    @property
    def alternate(self) -> str | None:
        """The exchange that takes what this one could not route, or None: the argument's before the policy's."""
        name = self.arguments.get("alternate-exchange", self.policy.get("alternate-exchange"))
        return name if isinstance(name, str) else None


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as `queue.declare` describes it.

    Args:
        policy: what the broker's policies set beside the arguments; no part of the declaration, and never compared.
    """

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = EMPTY
    policy: Mapping[str, Any] = field(default=EMPTY, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", as_table(self.arguments))

    @property
    def type(self) -> str:
        """`classic`, `quorum` or `stream`."""
        kind = self.arguments.get("x-queue-type", "classic")
        return kind if isinstance(kind, str) else str(kind)

    @property
    def max_priority(self) -> int | None:
        """The highest priority of a classic queue, or None where every message is equal."""
        value = self.arguments.get("x-max-priority")
        return value if isinstance(value, int) else None

    def level_of(self, priority: int | None) -> int:
        """The level at which a message of that priority waits here; higher ones are delivered first.

        Quorum queues as since RabbitMQ 4.3.
        """
        if self.type == "quorum":
            return min(QUORUM_DEFAULT_PRIORITY if priority is None else priority, QUORUM_MAX_PRIORITY)
        return min(priority or 0, self.max_priority or 0)

    @property
    def dead_letter_exchange(self) -> str | None:
        """Where rejected, expired and overflowing messages go, or None where they are dropped."""
        name = self.setting("dead-letter-exchange")
        return name if isinstance(name, str) else None

    @property
    def dead_letter_routing_key(self) -> str | None:
        """The key a dead letter is published with, or None where it keeps its own."""
        key = self.setting("dead-letter-routing-key")
        return key if isinstance(key, str) else None

    def setting(self, name: str) -> Any:
        """What holds for the queue, None where nothing is set: `message-ttl`, `max-length`, `overflow`, ...

        The argument `x-<name>` counts before the policy; of two limits the smaller one does.
        """
        argument, policy = self.arguments.get(f"x-{name}"), self.policy.get(name)
        return policy if argument is None else smaller_limit(name, policy, argument)


LIMITS = frozenset({"message-ttl", "expires", "max-length", "max-length-bytes", "delivery-limit"}) | {
    "max-in-memory-length",
    "max-in-memory-bytes",
}
"""Settings of which the smaller counts where an argument, a policy and an operator's policy name one."""


def smaller_limit(name: str, below: Any, above: Any) -> Any:
    """What counts of two values of a setting: the smaller limit, otherwise `above`."""
    if name not in LIMITS or not isinstance(below, int) or not isinstance(above, int):
        return above
    # A delivery limit of -1 is none: any other one is smaller (rabbit_quorum_queue.erl, `resolve_delivery_limit`).
    return max(below, above) if below < 0 or above < 0 else min(below, above)


@dataclass(frozen=True, slots=True)
class Binding:
    """A way from an exchange to a queue or to another exchange.

    Two are one and the same to RabbitMQ when all five fields are equal; binding twice changes nothing.

    Args:
        source: the exchange's name.
        destination: the queue's name, or the other exchange's.
        arguments: what a headers exchange compares with a message's headers.
    """

    source: str
    destination: str
    binding_key: str = ""
    arguments: Mapping[str, Any] = EMPTY
    destination_type: DestinationType = "queue"

    def __post_init__(self) -> None:
        if self.arguments.__class__ is not FieldTable:
            object.__setattr__(self, "arguments", as_table(self.arguments))


@dataclass(frozen=True, slots=True)
class Message:
    """A message, as far as it decides where it goes: the exchange, the routing key, the headers.

    Args:
        exchange: the exchange it is published to, `''` for the default exchange.
        headers: the basic property `headers`; `CC` and `BCC` may stand in it.
        priority: 0 to 255, or None.
        expiration: milliseconds as a string of digits, as on the wire, or None.

    Example:
        >>> from waybill import Message
        >>> Message("news", "usa.sports", {"region": "usa"}).routing_key
        'usa.sports'
    """

    exchange: str
    routing_key: str = ""
    headers: Mapping[str, Any] = EMPTY
    priority: int | None = None
    expiration: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", as_table(self.headers))


PREDECLARED: Mapping[str, Exchange] = {
    exchange.name: exchange
    for exchange in (
        Exchange(DEFAULT_EXCHANGE, "direct"),
        Exchange("amq.direct", "direct"),
        Exchange("amq.fanout", "fanout"),
        Exchange("amq.headers", "headers"),
        Exchange("amq.match", "headers"),
        Exchange("amq.rabbitmq.trace", "topic", internal=True),
        Exchange("amq.topic", "topic"),
    )
}
"""The exchanges that every vhost has from its first moment (rabbit_vhost.erl)."""
