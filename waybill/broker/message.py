"""A message as the queues keep it: the bytes to send on, and the little that queues ask about."""

from __future__ import annotations

from waybill.broker.properties import headers_of, with_headers
from waybill.routing.dead_letters import Reason

_PROPERTIES_START = 12
"""Bytes of a header frame's payload before the property flags: class, weight and body size."""


class Message:
    """One published message; all queues that it reached share it.

    Args:
        exchange: where it was published, or last dead-lettered, to.
        routing_key: the first of its routing keys.
        address: exchange and routing key as the two short strings that stand in deliver, get-ok and return.
        header: the payload of its content header frame.
        body: the whole body.
        priority: 0 to 255, None where the publisher gave none.
        expiration: milliseconds, None where it has none of its own.
        keys: every routing key, those in CC and BCC included, where there is more than one.
        hidden: the keys that came from BCC, which nobody is shown.
        failures: of its deliveries from the queues that it was dead-lettered from; RabbitMQ does not forget them.
        deaths: what dead-lettering has recorded, newest first.
        first_size: of a dead letter, `properties_size` before it first was one.
    """

    __slots__ = (
        "address",
        "body",
        "deaths",
        "exchange",
        "expiration",
        "failures",
        "first_size",
        "header",
        "hidden",
        "keys",
        "priority",
        "routing_key",
    )

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        address: bytes,
        header: bytes,
        body: bytes,
        priority: int | None = None,
        expiration: int | None = None,
        *,
        keys: tuple[str, ...] | None = None,
        hidden: tuple[str, ...] = (),
        deaths: tuple[Death, ...] = (),
        failures: int = 0,
        first_size: int | None = None,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.address = address
        self.header = header
        self.body = body
        self.priority = priority
        self.expiration = expiration
        self.keys = keys
        self.hidden = hidden
        self.deaths = deaths
        self.failures = failures
        self.first_size = first_size

    @property
    def properties_size(self) -> int:
        """Bytes of property flags and properties as the first queues got them: mc_amqpl.erl, `size`.

        Dead-lettering adds nothing to them; what it records RabbitMQ keeps beside the message.
        """
        return len(self.header) - _PROPERTIES_START if self.first_size is None else self.first_size

    @property
    def all_keys(self) -> tuple[str, ...]:
        """Every routing key, the first one first."""
        return self.keys or (self.routing_key,)


class Death:
    """How often, why and from where a message was dead-lettered, for one queue and one reason.

    Args:
        first: seconds since 1970 of the first time.
        expiration: the message's own expiration at the first time, where it had one.
    """

    __slots__ = ("count", "exchange", "expiration", "first", "keys", "queue", "reason")

    def __init__(
        self,
        queue: str,
        reason: Reason,
        exchange: str,
        keys: tuple[str, ...],
        first: int,
        expiration: int | None,
        count: int = 1,
    ) -> None:
        self.queue = queue
        self.reason = reason
        self.exchange = exchange
        self.keys = keys
        self.first = first
        self.expiration = expiration
        self.count = count

    def again(self) -> Death:
        """The same death once more."""
        return Death(self.queue, self.reason, self.exchange, self.keys, self.first, self.expiration, self.count + 1)


def with_counts(header: bytes, counts: tuple[tuple[str, bytes], ...]) -> bytes:
    """A content header with a quorum queue's counters among its headers."""
    names = {name for name, _ in counts}
    kept = [(name, field.raw) for name, field in headers_of(header).items() if name not in names]
    return with_headers(header, [*kept, *counts])
