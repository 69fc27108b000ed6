"""Whose turn it is: the consumers of one queue.

After rabbit_queue_consumers.erl: higher `x-priority` first, among equals in turn. A consumer that cannot take more
(its prefetch is used up, or its connection's writes are backed up) leaves the turn and joins again at the end
when it can. With `x-single-active-consumer` only one of them ever has a turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

from waybill.broker.output import Output
from waybill.broker.tables import short_string
from waybill.topology.fields import EMPTY


class Reader(Protocol):
    """What must be known here of a consumer's channel: whether its client reads what it is sent."""

    output: Output


R = TypeVar("R", bound=Reader)


class Consumer(Generic[R]):
    """One `basic.consume`.

    Args:
        receiver: who is given its deliveries, see `queue.Receiver`.
        prefetch: deliveries that may be unacknowledged at once, 0 for any number.
        priority: the argument `x-priority`.
        arguments: all that it came with.

    Attributes:
        number: how many its queue had before it.
    """

    __slots__ = (
        "arguments",
        "is_exclusive",
        "is_gone",
        "is_in_turn",
        "no_ack",
        "number",
        "prefetch",
        "priority",
        "receiver",
        "tag",
        "tag_bytes",
        "unacked",
    )

    def __init__(
        self,
        tag: str,
        receiver: R,
        *,
        no_ack: bool = False,
        is_exclusive: bool = False,
        prefetch: int = 0,
        priority: int = 0,
        arguments: Mapping[str, Any] = EMPTY,
    ) -> None:
        self.tag = tag
        self.tag_bytes = short_string(tag)
        self.receiver = receiver
        self.no_ack = no_ack
        self.is_exclusive = is_exclusive
        self.prefetch = prefetch
        self.priority = priority
        self.arguments = arguments
        self.unacked = 0
        self.number = 0
        self.is_in_turn = False
        self.is_gone = False

    def can_take(self) -> bool:
        """Whether a delivery may be sent now."""
        if self.prefetch and self.unacked >= self.prefetch:
            return False
        return not self.receiver.output.is_backed_up


MAX_CREDIT = 2_000
"""What a quorum queue takes where there is no prefetch limit (rabbit_fifo_client.erl, UNLIMITED_PREFETCH_COUNT)."""


class Consumers(Generic[R]):
    """The consumers of one queue, in turn.

    Args:
        is_single: only one of them is active, the others wait for its end.
    """

    __slots__ = ("_active", "_all", "_is_fading", "_rings", "is_preemptive", "is_single")

    def __init__(self, *, is_single: bool = False, is_preemptive: bool = False) -> None:
        self.is_single = is_single
        self.is_preemptive = is_preemptive
        self._all: list[Consumer[R]] = []
        self._rings: dict[int, deque[Consumer[R]]] = {}
        self._active: Consumer[R] | None = None
        self._is_fading = False  # the active one is given no more: another waits for what it has out

    def __len__(self) -> int:
        return len(self._all)

    @property
    def listed(self) -> tuple[Consumer[R], ...]:
        """Every consumer, oldest first."""
        return tuple(self._all)

    def is_exclusively_held(self) -> bool:
        """Whether one consumer has the queue to itself."""
        return any(consumer.is_exclusive for consumer in self._all)

    def add(self, consumer: Consumer[R]) -> None:
        """A consumer joins at the end of its priority."""
        self._all.append(consumer)
        if self.is_single:
            self._elect()
        else:
            self._join(consumer)

    def remove(self, consumer: Consumer[R]) -> None:
        """A consumer leaves."""
        self._all.remove(consumer)
        consumer.is_gone = True
        self._leave(consumer)
        if self._active is consumer:
            self._active = None
        if self.is_single:
            self._elect()

    def wake(self, consumer: Consumer[R]) -> None:
        """A consumer may be able to take again: unless it waits for a single active one, it joins its turn."""
        if consumer.is_gone or consumer.is_in_turn:
            return
        if not self.is_single or (consumer is self._active and not self._is_fading):
            self._join(consumer)

    def next(self) -> Consumer[R] | None:
        """The consumer whose turn it is, None where none can take a delivery; its turn is then over."""
        for ring in self._rings.values():
            while ring:
                consumer = ring[0]
                if consumer.can_take():
                    if self.is_preemptive and consumer.unacked + 1 == consumer.prefetch and not consumer.no_ack:
                        ring.popleft()  # a quorum queue sees at once that its prefetch is used up
                        consumer.is_in_turn = False
                    elif len(ring) > 1:
                        ring.rotate(-1)
                    return consumer
                ring.popleft()
                consumer.is_in_turn = False
        return None

    def _elect(self) -> None:
        if not self._all:
            return
        chosen = self._active
        if chosen is None:
            chosen = self._best()
        elif self.is_preemptive and self._best().priority > chosen.priority:
            self._leave(chosen)
            if chosen.unacked:
                self._is_fading = True
                return
            chosen = self._best()
        self._is_fading = False
        self._active = chosen
        if not chosen.is_in_turn:
            self._join(chosen)

    def _best(self) -> Consumer[R]:
        """The next active one: by priority, in a quorum queue then by prefetch, and then the oldest."""
        if not self.is_preemptive:
            return max(self._all, key=lambda one: one.priority)
        return max(self._all, key=lambda one: (one.priority, one.prefetch or MAX_CREDIT))

    def is_active(self, consumer: Consumer[R]) -> bool:
        """Whether a consumer is given deliveries, and doesn't wait for a single active one's end."""
        return not self.is_single or consumer is self._active

    def settled(self) -> None:
        """A delivery was settled: one with a higher priority may have waited for that."""
        if self.is_single and self.is_preemptive:
            self._elect()

    def _join(self, consumer: Consumer[R]) -> None:
        ring = self._rings.get(consumer.priority)
        if ring is None:
            self._rings[consumer.priority] = deque()
            self._rings = dict(sorted(self._rings.items(), reverse=True))
            ring = self._rings[consumer.priority]
        ring.append(consumer)
        consumer.is_in_turn = True

    def _leave(self, consumer: Consumer[R]) -> None:
        if consumer.is_in_turn:
            self._rings[consumer.priority].remove(consumer)
            consumer.is_in_turn = False
