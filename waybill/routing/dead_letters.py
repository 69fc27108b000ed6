"""Where a message goes when it leaves a queue unconsumed (rabbit_dead_letter.erl, mc.erl).

- The broker publishes it again, to the queue's `x-dead-letter-exchange`: with `x-dead-letter-routing-key`, or
  else with all the keys it came with, those of `CC` and `BCC` too. An internal exchange takes it.
- Without that argument, or without that exchange, it is gone. A stream dead-letters nothing.
- It loses its `expiration`, and carries `x-first-death-*` and `x-last-death-*` headers, which a headers
  exchange sees under `all-with-x` and `any-with-x`. The header `CC` is seen to the end, also where a
  dead-letter key has taken the place of the keys in it.
- **Cycles.** Unless it was rejected just now, it is dropped before a queue in which it has died already, if
  it was never rejected from that death on. Rejections may go round for ever.
- An overflowing queue with `x-overflow: reject-publish` refuses the new message and dead-letters nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

from waybill.errors import UnknownName
from waybill.routing.publishing import routing_keys
from waybill.topology import Exchange, Message, Queue

Reason: TypeAlias = Literal["rejected", "expired", "maxlen", "delivery_limit"]

Deaths: TypeAlias = Sequence[tuple[str, Reason]]
"""The queues a message died in, and why, newest first, each pair once: the keys of its `x-death` header."""

MAX_HOPS = 32
"""Dead-letterings followed in a chain; a longer one is no design but an accident, and is cut off."""


class Routes(Protocol):
    """What of a router is needed here."""

    @property
    def queues(self) -> Mapping[str, Queue]: ...

    @property
    def exchanges(self) -> Mapping[str, Exchange]: ...

    def route_within(self, name: str, keys: Sequence[str], headers: Mapping[str, Any]) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class DeadLettering:
    """What happens to a message that leaves `queue` for `reason`.

    Args:
        exchange: the dead-letter exchange, or None where there is none to go to.
        routing_keys: what it is published with there, the first one first.
        queues: those that take it; empty where it is lost.
        cycles: those that would have taken it, but for the cycle rule.
        note: why it is lost or not dead-lettered; empty where there is nothing to say.
        deaths: the message's deaths with this one, newest first.
        onward: what happens next by itself, in those of `queues` that have a TTL and a dead-letter exchange.
        message: as it then lies in `queues`; where it dies again, follow it with these deaths and keys.
    """

    queue: str
    reason: Reason
    exchange: str | None = None
    routing_keys: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()
    note: str = ""
    deaths: tuple[tuple[str, Reason], ...] = ()
    onward: tuple[DeadLettering, ...] = ()
    message: Message | None = None

    @property
    def is_lost(self) -> bool:
        """Whether no queue has the message afterwards."""
        return not self.queues

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "queue": self.queue,
            "reason": self.reason,
            "exchange": self.exchange,
            "routing_keys": list(self.routing_keys),
            "queues": list(self.queues),
            "cycles": list(self.cycles),
            "note": self.note,
            "onward": [step.to_json() for step in self.onward],
        }


def follow(
    routes: Routes,
    queue: str,
    message: Message,
    reason: Reason,
    deaths: Deaths = (),
    *,
    keys: Sequence[str] | None = None,
    hops: int = MAX_HOPS,
) -> DeadLettering:
    """Dead-letter `message` from `queue`, and on from there as long as it goes by itself.

    Args:
        message: as it lies in `queue`.
        deaths: those before this one.
        keys: its routing keys, where it has died before; otherwise they are read from the message.

    Raises:
        UnknownName: no such queue.
    """
    held = routes.queues.get(queue)
    if held is None:
        raise UnknownName("queue", queue, routes.queues)
    note = _why_not(held, reason, routes)
    if note:
        return DeadLettering(queue, reason, held.dead_letter_exchange, note=note)
    died = ((queue, reason), *(death for death in deaths if death != (queue, reason)))
    letter = _letter(held, message, reason, is_first=not deaths)
    keys = _keys(held, message, keys)
    reached = routes.route_within(letter.exchange, keys, letter.headers)
    cycles = tuple(name for name in reached if is_cycle(name, died))
    queues = tuple(name for name in reached if name not in cycles)
    onward = [routes.queues[name] for name in queues if _expires_by_itself(routes.queues[name])]
    if onward and hops <= 1:
        note = "not followed further"
        return DeadLettering(queue, reason, letter.exchange, keys, queues, cycles, note, died, message=letter)
    steps = tuple(follow(routes, target.name, letter, "expired", died, keys=keys, hops=hops - 1) for target in onward)
    note = _lost(letter.exchange, cycles) if not queues else ""
    return DeadLettering(queue, reason, letter.exchange, keys, queues, cycles, note, died, steps, letter)


def is_cycle(target: str, deaths: Deaths) -> bool:
    """Whether the cycle rule keeps a message from `target`: it died there and wasn't rejected since.

    Args:
        deaths: those of the message, the one that sends it there included.
    """
    for index, (queue, _) in enumerate(deaths):
        if queue == target:
            return all(reason != "rejected" for _, reason in deaths[: index + 1])
    return False


def death_headers(queue: str, reason: Reason, exchange: str, *, is_first: bool) -> dict[str, str]:
    """The headers that a message is given when it dies: of its last death, and of its first, which then stay.

    Args:
        exchange: the one that it was published to before.
    """
    ends = ("first", "last") if is_first else ("last",)
    values = {"queue": queue, "reason": reason, "exchange": exchange}
    return {f"x-{end}-death-{field}": value for end in ends for field, value in values.items()}


def _why_not(queue: Queue, reason: Reason, routes: Routes) -> str:
    if queue.type == "stream":
        return "a stream dead-letters nothing"
    if reason == "maxlen" and queue.setting("overflow") == "reject-publish":
        return "the full queue refuses the new message (overflow: reject-publish), a nack to its publisher"
    if reason == "delivery_limit" and queue.type != "quorum":
        return f"a {queue.type} queue has no delivery limit"
    if queue.dead_letter_exchange is None:
        return "the queue has no dead-letter exchange: the message is lost"
    if queue.dead_letter_exchange not in routes.exchanges:
        return f"the dead-letter exchange '{queue.dead_letter_exchange}' does not exist: the message is lost"
    return ""


def _lost(exchange: str, cycles: tuple[str, ...]) -> str:
    if cycles:
        return "a cycle without a rejection in it: the message is dropped"
    return f"no binding of the dead-letter exchange '{exchange}' takes it: the message is lost"


def _keys(queue: Queue, message: Message, keys: Sequence[str] | None) -> tuple[str, ...]:
    if queue.dead_letter_routing_key is not None:
        return (queue.dead_letter_routing_key,)
    if keys is not None:
        return tuple(keys)
    return routing_keys(message.routing_key, message.headers)


def _letter(queue: Queue, message: Message, reason: Reason, *, is_first: bool) -> Message:
    """The message as the dead-letter exchange sees it."""
    headers = {**message.headers, **death_headers(queue.name, reason, message.exchange, is_first=is_first)}
    key = queue.dead_letter_routing_key
    return replace(
        message,
        exchange=queue.dead_letter_exchange or "",
        routing_key=message.routing_key if key is None else key,
        headers=headers,
        expiration=None,
    )


def _expires_by_itself(queue: Queue) -> bool:
    return queue.setting("message-ttl") is not None and queue.dead_letter_exchange is not None
