"""Which messages the broker has answered for: values and rules, no connection.

A channel in confirm mode counts its publications from 1: that number is the delivery tag. The broker acks or nacks
tags in any order, several at once with `multiple`: the tag and all open ones below it. A message that no queue takes is
returned before it is acked (https://www.rabbitmq.com/docs/confirms). When the broker refuses a message it closes the
channel and skips everything behind it; RabbitMQ doesn't send the confirms that it owes for those ahead, which are in
their queues then. So a message goes alone that it may refuse: nothing is ahead of it, and nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery.canvas import Signature

from waybill.publishing.outcome import CONFIRMED, NACKED, REFUSED, RETURNED, UNKNOWN, UNSENT, Outcome, State

NOT_WRITTEN = "not written yet"
NO_ANSWER = "written, no answer yet"

ALWAYS_TAKEN = 128 * 1024
"""Bytes of a body that no broker finds too large. A larger one than any that was taken goes alone."""

_EXPIRATION = re.compile(r"\d{1,9}")
"""Milliseconds that RabbitMQ takes; it takes some more."""


def is_odd(expiration: str | None, headers: Mapping[str, Any] | None) -> bool:
    """Whether RabbitMQ may refuse these (406): what is no number of milliseconds, or no list of further keys."""
    if expiration is not None and not _EXPIRATION.fullmatch(expiration):
        return True
    given = headers or {}
    return any(name in given and not _is_list_of_keys(given[name]) for name in ("CC", "BCC"))


def _is_list_of_keys(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(key, str) for key in value)


@dataclass(slots=True, eq=False)
class Item:
    """One task of a batch, and what is known of it.

    Attributes:
        call: what Celery told its producer to publish: the body, and the options; None when it is confirmed,
            or when it can't be encoded.
        exchange, routing_key, correlation_id, expiration, user_id: as published.
        size: bytes of the body.
        is_odd: it has something that RabbitMQ wouldn't take, as far as is known here.
        frames: the message as bytes of AMQP, while it may have to be written.
        is_returned: `basic.return` came for it.
        is_settled: its state won't change any more in this try.
        is_explained: its reason says why no queue took it.
    """

    task_id: str
    signature: Signature
    call: tuple[Any, dict[str, Any]] | None
    state: State = UNSENT
    reason: str = NOT_WRITTEN
    exchange: str = ""
    routing_key: str = ""
    correlation_id: str | None = None
    expiration: str | None = None
    user_id: str | None = None
    size: int = 0
    is_odd: bool = False
    frames: bytes = b""
    is_returned: bool = False
    is_settled: bool = False
    is_explained: bool = False

    def settle(self, state: State, reason: str = "") -> None:
        """Say what became of it."""
        self.state, self.reason, self.is_settled, self.frames = state, reason, True, b""
        if state == CONFIRMED:
            self.call = None  # it isn't published again

    def begin(self) -> None:
        """Forget what became of an earlier try."""
        self.state, self.reason, self.is_settled = UNSENT, NOT_WRITTEN, False
        self.is_returned = self.is_explained = False

    def outcome(self) -> Outcome:
        """What is known now."""
        return Outcome(self.task_id, self.signature, self.state, self.reason)


class Ledger:
    """The messages of one channel at a time: which wait to be written, and which for the broker's answer.

    Attributes:
        pending: bytes to write, in order, each with its task; without one for what isn't confirmed.
        open: delivery tag -> the task, in the order of the tags.
        heard: how many answers came: it grows with each.
        refusals: exchange -> why the broker refuses messages for it.
    """

    def __init__(self) -> None:
        self.pending: list[tuple[bytes, Item | None]] = []
        self.open: dict[int, Item] = {}
        self.heard = 0
        self._exchanges: set[str] = set()  # those that the broker has taken a message for
        self._users: set[str | None] = {None}  # `user_id`s of messages that it has taken
        self._largest = ALWAYS_TAKEN
        self.refusals: dict[str, str] = {}
        self._last_tag = 0
        self._bytes = 0

    @property
    def in_flight(self) -> int:
        """Messages that are kept: to be written, or to be answered."""
        return len(self.pending) + len(self.open)

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the messages that are kept."""
        return self._bytes

    def is_sure(self, item: Item) -> bool:
        """Whether the broker won't refuse a message, by what it has taken before."""
        return (
            item.exchange in self._exchanges
            and not item.is_odd
            and item.size <= self._largest
            and item.user_id in self._users
        )

    def take(self, frames: bytes, item: Item | None) -> None:
        """Let a message be the next one to be written."""
        self.pending.append((frames, item))
        self._bytes += len(frames)

    def write(self) -> bytes:
        """What is to be written now; from here on all of it counts as written, however far that comes."""
        written, self.pending = self.pending, []
        for frames, item in written:
            if item is None:
                self._bytes -= len(frames)
                continue
            self._last_tag += 1
            item.state, item.reason = UNKNOWN, NO_ANSWER
            self.open[self._last_tag] = item
        return b"".join(frames for frames, _ in written)

    def acked(self, tag: int, multiple: bool) -> None:
        """`basic.ack`."""
        for item in self._answered(tag, multiple):
            if item.is_returned:
                self._settle(item, RETURNED, item.reason)
            else:
                self._settle(item, CONFIRMED)

    def nacked(self, tag: int, multiple: bool) -> None:
        """`basic.nack`."""
        for item in self._answered(tag, multiple):
            self._settle(item, NACKED, "basic.nack: a queue is full (`x-overflow: reject-publish`) or has no quorum")

    def returned(self, code: int, text: str, exchange: str, routing_key: str, correlation_id: str | None) -> None:
        """`basic.return`, which carries no tag: the oldest such message that hasn't been returned yet."""
        self.heard += 1
        for item in self.open.values():
            if not item.is_returned and (item.exchange, item.routing_key, item.correlation_id) == (
                exchange,
                routing_key,
                correlation_id,
            ):
                item.is_returned = True
                item.reason = f"{code} {text}: no queue for exchange {exchange!r} and routing key {routing_key!r}"
                return

    def closed(self, code: int, text: str, is_publish: bool) -> None:
        """The channel was closed by the broker. What it skipped is to be written again, on a new channel.

        Args:
            is_publish: the broker says that `basic.publish` was at fault.
        """
        self.heard += 1
        items = list(self.open.values())
        self.open.clear()
        self._last_tag = 0
        reply = f"{code} {text}"
        first, last = refused_by(text, items) if is_publish else (0, len(items) - 1)
        for place, item in enumerate(items[: last + 1]):
            if item.is_returned:
                self._settle(item, RETURNED, item.reason)
            elif place < first:
                self._settle(item, UNKNOWN, f"no confirm before the channel was closed for a later message: {reply}")
            elif first == last and is_publish:
                self._settle(item, REFUSED, reply)
            else:
                self._settle(item, UNKNOWN, f"the channel was closed for this message or one beside it: {reply}")
        if is_publish and (found := _EXCHANGE.search(text)) and not _TOPIC.search(text):
            self._exchanges.discard(found[1])  # its next message goes alone
            if first == last:
                self.refuse(found[1], reply)
        behind = items[last + 1 :]
        for item in behind:
            item.begin()
        self.pending[:0] = [(item.frames, item) for item in behind]

    def refuse(self, exchange: str, reply: str) -> None:
        """Messages for this exchange are refused, without being written."""
        self.refusals[exchange] = f"not written: the broker refused an earlier message for this exchange: {reply}"
        kept = []
        for frames, item in self.pending:
            if item is not None and item.exchange == exchange:
                self._settle(item, REFUSED, self.refusals[exchange])
            else:
                kept.append((frames, item))
        self.pending = kept

    def lost(self, reason: str) -> None:
        """The connection is gone, or isn't used any more."""
        for item in self.open.values():
            if item.is_returned:
                self._settle(item, RETURNED, item.reason)
            else:
                self._settle(item, UNKNOWN, f"written, no confirm: {reason}")
        self.open.clear()
        self.drop(reason)

    def drop(self, reason: str) -> None:
        """Write nothing more of what waits for it."""
        for frames, item in self.pending:
            if item is None:
                self._bytes -= len(frames)
            else:
                self._settle(item, UNSENT, f"not written: {reason}")
        self.pending.clear()

    def _answered(self, tag: int, multiple: bool) -> list[Item]:
        self.heard += 1
        if not multiple:
            return [self.open.pop(tag)] if tag in self.open else []
        tags = []
        for one in self.open:
            if tag and one > tag:  # a tag of 0 means all of them
                break
            tags.append(one)
        return [self.open.pop(one) for one in tags]

    def _settle(self, item: Item, state: State, reason: str = "") -> None:
        self._bytes -= len(item.frames)
        if state in (CONFIRMED, RETURNED, NACKED):
            self._exchanges.add(item.exchange)
            self._users.add(item.user_id)
            self._largest = max(self._largest, item.size)
        item.settle(state, reason)


# RabbitMQ's sentences (rabbit_channel.erl, rabbit_access_control.erl), and what of a message each of them names. The
# same message is refused whenever it is sent: the first that fits is the one.
_TOPIC = re.compile(r"access to topic '(.*)' in exchange '(.*)' in vhost '", re.DOTALL)
_BY_MESSAGE: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], Item], bool]], ...] = (
    (re.compile(r"message size (\d+) is larger than"), lambda found, item: item.size == int(found[1])),
    (re.compile(r"invalid expiration '(.*)': ", re.DOTALL), lambda found, item: item.expiration == found[1]),
    (re.compile(r"user_id property set to '(.*)' but", re.DOTALL), lambda found, item: item.user_id == found[1]),
    (_TOPIC, lambda found, item: (item.routing_key, item.exchange) == (found[1], found[2])),
)
_EXCHANGE = re.compile(r"exchange '(.*?)' in vhost '", re.DOTALL)


def refused_by(text: str, items: Sequence[Item]) -> tuple[int, int]:
    """The places of the first and the last message that a refusal may be about; one place where it's certain.

    An exchange that is named may have been deleted a moment ago: of several messages for it, the first may have been
    taken. Those behind the last one were skipped by the broker.
    """
    for pattern, fits in _BY_MESSAGE:
        if found := pattern.search(text):
            places = _places(fits(found, item) for item in items)
            if places:
                return places[0], places[0]
    if found := _EXCHANGE.search(text):
        name = found[1]
        places = _places(item.exchange == name for item in items)
        if places:
            return places[0], places[-1]
    return 0, len(items) - 1


def _places(fits: Iterable[bool]) -> list[int]:
    return [place for place, is_one in enumerate(fits) if is_one]
