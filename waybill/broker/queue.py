"""One queue: what publish, get, consume, settle and the clock do to it.

Nothing here knows of sockets or bytes. A queue calls two things: a consumer's `Receiver`, to hand a delivery over, and
its `Home`, to dead-letter a message, to be called again at a time, and to account for its messages.

The laws are RabbitMQ 4.3's, measured, where no other source is named:

- A message expires only as the head of its queue, in a quorum queue as the head of its priority; a requeued one
  keeps its time. A classic queue looks at its head when it comes to be one by another's leaving, or alone, and not
  when it comes by a higher priority, nor before it delivers it (rabbit_amqqueue_process.erl: deliver_or_enqueue).
- `x-max-length` counts waiting messages. `drop-head` drops the one that would leave next, so with priorities a
  high one. On a quorum queue `reject-publish` takes one message more, and `reject-publish-dlx` is `drop-head`.
  What comes back is counted before a consumer may have it, in a quorum queue afterwards (rabbit_fifo.erl, checkout).
- A delivery has failed after `basic.reject` and after a lost channel, not after `basic.nack` or `basic.recover`. A
  quorum queue dead-letters a message that comes back, however it does, with more failures than its delivery limit,
  those before a dead-lettering included, and shows their number; a classic queue hands the number on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from waybill.broker import consumers
from waybill.broker.limits import DELIVERY_LIMIT
from waybill.broker.message import Message
from waybill.broker.properties import is_persistent
from waybill.broker.ready import Entry, QuorumReady, Ready
from waybill.routing.dead_letters import Reason
from waybill.topology.values import Queue as Declaration


class Home(Protocol):
    """What a queue needs around it."""

    @property
    def now(self) -> float:
        """The clock, in seconds that only grow."""

    def dead_letter(self, queue: Queue, message: Message, reason: Reason, *, failures: int) -> None:
        """Take a message that left the queue for no consumer."""

    def wake_at(self, queue: Queue, when: float) -> None:
        """Call `queue.on_time()` at this time of the clock, or soon after."""

    def hold(self, message: Message) -> None:
        """Count what a message takes, once for each queue that holds it."""

    def release(self, message: Message) -> None:
        """Count it no more."""


class Owner(Protocol):
    """What the owner of exclusive queues, a connection, is told."""

    @property
    def owned(self) -> set[Queue]:
        """The exclusive queues that end with it."""


class Receiver(consumers.Reader, Protocol):
    """What a queue needs of a consumer's channel."""

    def deliver(self, queue: Queue, consumer: Consumer, entry: Entry) -> None:
        """Send a delivery."""

    def reassign(self, former: Consumer, consumer: Consumer) -> int:
        """What a former consumer has out is another's now; returns how many deliveries."""

    def cancelled(self, consumer: Consumer) -> None:
        """A consumer's queue is gone."""


Consumer = consumers.Consumer[Receiver]


class Queue:
    """A classic or a quorum queue.

    Args:
        declaration: accepted by the engine before.
        owner: whom an exclusive queue belongs to.
    """

    def __init__(self, declaration: Declaration, home: Home, owner: Owner | None = None) -> None:
        self.declaration = declaration
        self.name = declaration.name
        self.home = home
        self.owner = owner
        self.is_quorum = declaration.type == "quorum"
        self.is_single_active = declaration.arguments.get("x-single-active-consumer") is True
        self.ready = QuorumReady() if self.is_quorum else Ready()
        self.consumers = consumers.Consumers[Receiver](is_single=self.is_single_active, is_preemptive=self.is_quorum)
        self.unacked = 0
        self._gets_out = 0
        self._leaving: list[Consumer] = []
        """Cancelled consumers whose deliveries are not settled yet."""
        self.is_deleted = False
        self._has_priorities = self.is_quorum or bool(declaration.max_priority)
        self._next_position = 0
        self._next_consumer = 0
        self._can_expire = False
        self._last_used = home.now
        self._read_settings()
        self.touch()

    def _read_settings(self) -> None:
        """What the arguments and the policies set."""
        declaration = self.declaration
        setting = declaration.setting
        self.dead_letter_exchange = declaration.dead_letter_exchange
        self.dead_letter_key = declaration.dead_letter_routing_key
        self._ttl = _seconds(setting("message-ttl"))
        self._expires = _seconds(setting("expires"))
        self._max_length: int | None = setting("max-length")
        self._max_bytes: int | None = setting("max-length-bytes")
        self._is_bounded = self._max_length is not None or self._max_bytes is not None
        self._overflow: str = setting("overflow") or "drop-head"
        limit = setting("delivery-limit")
        self._delivery_limit: int = DELIVERY_LIMIT if limit is None else limit

    def apply(self, declaration: Declaration) -> None:
        """The policies have changed: other settings hold from now on, a new bound for what waits already, too."""
        self.declaration = declaration
        self._read_settings()
        self.touch()
        if self.trim():
            self.expire()

    @property
    def published(self) -> int:
        """How many messages have come so far."""
        return self._next_position

    # publish

    def publish(self, message: Message) -> bool:
        """Take a message; False where the queue is full and says so to the publisher."""
        if self._is_bounded and self._overflow != "drop-head" and self._is_full_for(message):
            if self._overflow == "reject-publish-dlx":
                self.home.dead_letter(self, message, "maxlen", failures=message.failures)
            return False
        entry = self._entry(message)
        entry.was_seen = self.is_quorum and entry.failures > 0  # a classic queue looks when the message has waited
        self.home.hold(message)
        if not self.ready.count:
            consumer = self.consumers.next()
            if consumer is not None:
                self._hand_over(consumer, entry)
                return True
        entry.was_seen = entry.failures > 0
        self.ready.add(entry)
        if self.trim() or self.is_quorum or self.ready.count == 1:
            self.expire()
        return True

    def _entry(self, message: Message) -> Entry:
        self._next_position = position = self._next_position + 1
        priority = self.declaration.level_of(message.priority) if self._has_priorities else 0
        expires_at = None
        if message.expiration is not None or self._ttl is not None:
            expires_at = self.home.now + self._lifetime(message)
            self._can_expire = True
        return Entry(message, position, priority, expires_at)

    def _lifetime(self, message: Message) -> float:
        own = _seconds(message.expiration)
        if own is None or self._ttl is None:
            return own if self._ttl is None else self._ttl  # type: ignore[return-value]
        return min(own, self._ttl)

    def _is_full_for(self, message: Message) -> bool:
        count, size = self.ready.count, self.ready.size
        if self.is_quorum:
            if self._overflow == "reject-publish-dlx":
                return False
            return _is_above(count, self._max_length) or _is_above(size, self._max_bytes)
        return _is_above(count + 1, self._max_length) or _is_above(size + self.ready.size_of(message), self._max_bytes)

    def trim(self) -> bool:
        """Drop what waits above the bounds of a queue that drops; whether there was something."""
        if not self._is_bounded:
            return False
        if self._overflow != "drop-head" and not (self.is_quorum and self._overflow == "reject-publish-dlx"):
            return False
        ready = self.ready
        before = ready.count
        while ready.count and (_is_above(ready.count, self._max_length) or _is_above(ready.size, self._max_bytes)):
            self._lose(ready.pop(), "maxlen")
        return ready.count < before

    # deliver

    def get(self, *, no_ack: bool = False) -> Entry | None:
        """Take the head for `basic.get`."""
        self.touch()
        if self.is_quorum:
            self.expire()
        if not self.ready.count:
            return None
        entry = self.ready.pop()
        if self.is_quorum and not no_ack:  # the next one may be due: only then it's still counted in this answer
            self._watch()
        else:
            self.expire()
        return entry

    def taken(self, entry: Entry, *, no_ack: bool) -> None:
        """The entry from `get` has been sent."""
        entry.acquired += 1
        if no_ack:
            self.home.release(entry.message)
        else:
            self.unacked += 1
            self._gets_out += 1

    def dispatch(self) -> None:
        """Hand over what waits to those who can take it."""
        ready, consumers = self.ready, self.consumers
        while ready.count:
            if self._can_expire and self.is_quorum:
                self.expire()
                if not ready.count:
                    return
            consumer = consumers.next()
            if consumer is None:
                return
            self._hand_over(consumer, ready.pop())
            if self._can_expire and not self.is_quorum:
                self.expire()

    def _hand_over(self, consumer: Consumer, entry: Entry) -> None:
        if consumer.no_ack:
            self.home.release(entry.message)
        else:
            self.unacked += 1
            consumer.unacked += 1
        consumer.receiver.deliver(self, consumer, entry)
        entry.acquired += 1

    def subscribe(self, consumer: Consumer) -> None:
        """A consumer joins; its first deliveries follow with `dispatch`.

        A quorum queue knows a consumer by its channel and tag: one that was cancelled and comes back is the same, and
        may have deliveries to settle. Only there does a prefetch count without acknowledgements.
        """
        if consumer.no_ack and not self.is_quorum:
            consumer.prefetch = 0
        consumer.number = self._next_consumer = self._next_consumer + 1
        for former in self._leaving if self.is_quorum else ():
            if former.receiver is consumer.receiver and former.tag == consumer.tag:
                self._leaving.remove(former)
                consumer.number = former.number
                consumer.unacked = consumer.receiver.reassign(former, consumer)
                break
        self.consumers.add(consumer)

    def unsubscribe(self, consumer: Consumer) -> bool:
        """A consumer leaves; its unacknowledged deliveries stay with its channel.

        The next active consumer is given something with `dispatch`: after what comes back, where the channel is over.

        Returns:
            Whether the queue, being auto-delete and now without consumers, is to be deleted.
        """
        self.consumers.remove(consumer)
        if consumer.unacked:
            self._leaving.append(consumer)
        if len(self.consumers):
            return False
        self.touch()
        return self.declaration.auto_delete

    def wake(self, consumer: Consumer) -> None:
        """A consumer may take deliveries again."""
        self.consumers.wake(consumer)
        if self.ready.count:
            self.dispatch()

    @property
    def active_consumers(self) -> int:
        """How many consumers `queue.declare-ok` counts.

        On a quorum queue a `basic.get` is one until it is settled, and a cancelled one until its deliveries are; those
        that wait for a single active one are none.
        """
        if not self.is_quorum:
            return len(self.consumers)
        active = min(len(self.consumers), 1) if self.is_single_active else len(self.consumers)
        return active + len(self._leaving) + self._gets_out

    # settle

    def ack(self, entry: Entry, consumer: Consumer | None) -> None:
        """A delivery is acknowledged."""
        self.unacked -= 1
        self.home.release(entry.message)
        self.free(consumer)

    def free(self, consumer: Consumer | None) -> None:
        """A delivery to a consumer, or the answer to a `basic.get`, is settled."""
        if consumer is None:
            self._gets_out -= 1
            return
        consumer.unacked -= 1
        if consumer.is_gone:
            if not consumer.unacked and consumer in self._leaving:
                self._leaving.remove(consumer)
            return
        if self.is_single_active:
            self.consumers.settled()
        if self.is_single_active or not consumer.is_in_turn:  # the active one may be in its turn again, and unserved
            self.wake(consumer)

    def discard(self, entries: Iterable[Entry], *, is_failure: bool) -> None:
        """Deliveries are rejected for good."""
        for entry in entries:
            self.unacked -= 1
            entry.failures += is_failure
            self._lose(entry, "rejected")

    def requeue(self, entries: Iterable[Entry], *, is_failure: bool) -> None:
        """Deliveries come back, in the order in which they are given.

        Args:
            is_failure: it counts, in a quorum queue against the delivery limit.
        """
        for entry in entries:
            self.unacked -= 1
            if self.is_deleted:
                self.home.release(entry.message)
                continue
            entry.failures += is_failure
            if self.is_quorum and 0 <= self._delivery_limit < entry.failures:
                self._lose(entry, "delivery_limit")
                continue
            self.ready.requeue(entry)
        if not self.is_deleted:
            self.expire()
            if not self.is_quorum and self.trim():
                self.expire()  # what is first now

    def purge(self) -> int:
        """Drop what waits; returns how many that were."""
        self.expire()
        entries = self.ready.clear()
        for entry in entries:
            self.home.release(entry.message)
        return len(entries)

    def durable_entries(self) -> list[Entry]:
        """What of the waiting messages survives a restart, if the queue does."""
        return [one for one in self.ready.entries() if self.is_quorum or is_persistent(one.message.header)]

    def restore(self, message: Message, acquired: int, expires_at: float | None) -> None:
        """Put a message from before the start behind those that wait."""
        entry = self._entry(message)
        entry.acquired = acquired
        entry.expires_at = expires_at
        self.home.hold(message)
        self.ready.add(entry)
        self.expire()

    def forget_transient(self) -> None:
        """The broker starts again: persistent messages stay, and on a quorum queue all of them."""
        if self.is_quorum:
            return
        for entry in self.ready.clear():
            if is_persistent(entry.message.header):
                self.ready.add(entry)
            else:
                self.home.release(entry.message)

    def _lose(self, entry: Entry, reason: Reason) -> None:
        self.home.release(entry.message)
        if self.dead_letter_exchange is not None and not self.is_deleted:
            self.home.dead_letter(self, entry.message, reason, failures=entry.failures)

    # time

    def touch(self) -> None:
        """The queue is used: `x-expires` counts from here."""
        if self._expires is not None:
            self._last_used = self.home.now
            self.home.wake_at(self, self._last_used + self._expires)

    def is_expired(self) -> bool:
        """Whether `x-expires` has run out unused."""
        if self._expires is None or len(self.consumers):
            return False
        return self.home.now >= self._last_used + self._expires

    def expire(self) -> None:
        """Lose the expired messages that may go."""
        if not self._can_expire:
            return
        now = self.home.now
        while (entry := self.ready.pop_due(now)) is not None:
            self._lose(entry, "expired")
        self._watch()

    def _watch(self) -> None:
        when = self.ready.next_due()
        if when is not None:
            self.home.wake_at(self, when)

    def on_time(self) -> None:
        """The clock has come to a time that was asked for."""
        self.expire()
        if self._expires is not None and not len(self.consumers):
            self.home.wake_at(self, self._last_used + self._expires)


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000


def _is_above(value: int, limit: int | None) -> bool:
    return limit is not None and value > limit
