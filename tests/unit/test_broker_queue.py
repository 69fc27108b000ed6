"""A queue by itself: values in, values out, the clock in the test's hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from waybill.broker.message import Message
from waybill.broker.output import Output
from waybill.broker.queue import Consumer, Queue
from waybill.broker.ready import Entry
from waybill.topology.values import Queue as Declaration

HEADER = bytes.fromhex("003c0000 0000000000000001 0000")


@dataclass
class Home:
    """A home that only takes notes."""

    now: float = 100.0
    letters: list[tuple[bytes, str]] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)
    bytes_held: int = 0

    def dead_letter(self, queue: Queue, message: Message, reason: str, *, failures: int) -> None:
        del queue, failures
        self.letters.append((message.body, reason))

    def wake_at(self, queue: Queue, when: float) -> None:
        del queue
        self.wakes.append(when)

    def hold(self, message: Message) -> None:
        self.bytes_held += len(message.body)

    def release(self, message: Message) -> None:
        self.bytes_held -= len(message.body)


@dataclass
class Receiver:
    """A channel that keeps what it is given, for a client that reads it."""

    got: list[tuple[str, bytes, bool]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    output: Output = field(default_factory=lambda: Output(1, lambda: None))

    def deliver(self, queue: Queue, consumer: Consumer, entry: Entry) -> None:
        del queue
        self.got.append((consumer.tag, entry.message.body, entry.is_redelivered))
        self.entries.append(entry)

    def reassign(self, former: Consumer, consumer: Consumer) -> int:
        raise NotImplementedError("no consumer of these tests comes back")

    def cancelled(self, consumer: Consumer) -> None:
        raise NotImplementedError("no queue of these tests is deleted")


def message(body: bytes, priority: int | None = None, expiration: int | None = None) -> Message:
    return Message("", "q", b"\x00\x01q", HEADER, body, priority, expiration)


def queue(home: Home, **arguments: Any) -> Queue:
    given = {name.replace("_", "-"): value for name, value in arguments.items()}
    return Queue(Declaration("q", arguments=given), home)


def consumer(of: Queue, channel: Receiver, tag: str = "c", **options: Any) -> Consumer:
    made = Consumer(tag, channel, **options)
    of.subscribe(made)
    return made


def bodies(of: Queue) -> Iterator[bytes]:
    """Everything that waits, taken."""
    while (entry := of.get()) is not None:
        of.taken(entry, no_ack=True)
        yield entry.message.body


@pytest.fixture
def home() -> Home:
    return Home()


def test_first_in_first_out(home: Home) -> None:
    q = queue(home)
    for body in (b"a", b"b", b"c"):
        assert q.publish(message(body))
    assert list(bodies(q)) == [b"a", b"b", b"c"]
    assert home.bytes_held == 0


def test_priorities_above_the_maximum_count_as_it(home: Home) -> None:
    q = queue(home, x_max_priority=5)
    for place, priority in enumerate((None, 0, 3, 5, 200, 9, 1)):
        q.publish(message(b"%d" % place, priority))
    assert b"".join(bodies(q)) == b"3452601"


def test_a_quorum_queue_has_32_priorities_and_4_for_none(home: Home) -> None:
    q = queue(home, x_queue_type="quorum")
    for place, priority in enumerate((None, 0, 3, 4, 5, 10, 31, 200)):
        q.publish(message(b"%d" % place, priority))
    assert b"".join(bodies(q)) == b"67540321"


def test_what_comes_back_to_a_classic_queue_takes_its_place(home: Home) -> None:
    q = queue(home)
    for place in range(6):
        q.publish(message(b"%d" % place))
    entries = [entry for entry in (q.get() for _ in range(4)) if entry is not None]
    for entry in entries:
        q.taken(entry, no_ack=False)
    for back in (2, 0, 1):
        q.requeue([entries[back]], is_failure=True)
    assert b"".join(bodies(q)) == b"01245"


def test_what_comes_back_to_a_quorum_queue_leaves_in_that_order(home: Home) -> None:
    q = queue(home, x_queue_type="quorum")
    for place in range(6):
        q.publish(message(b"%d" % place))
    entries = [entry for entry in (q.get() for _ in range(4)) if entry is not None]
    for entry in entries:
        q.taken(entry, no_ack=False)
    for back in (2, 0, 1):
        q.requeue([entries[back]], is_failure=True)
    assert b"".join(bodies(q)) == b"20145"


def test_only_the_head_expires(home: Home) -> None:
    q = queue(home, x_dead_letter_exchange="")
    q.publish(message(b"a"))
    q.publish(message(b"b", expiration=10))
    home.now += 1
    q.on_time()
    assert q.ready.count == 2
    assert list(bodies(q)) == [b"a"]
    assert home.letters == [(b"b", "expired")]


def test_the_head_of_each_priority_of_a_quorum_queue_expires(home: Home) -> None:
    q = queue(home, x_queue_type="quorum")
    q.publish(message(b"back"))
    entry = q.get()
    assert entry is not None
    q.taken(entry, no_ack=False)
    q.requeue([entry], is_failure=True)
    q.publish(message(b"high", 31))
    q.publish(message(b"low, at once", 1, expiration=0))
    q.publish(message(b"low", 1))
    q.publish(message(b"behind low", 1, expiration=0))
    assert q.ready.count == 4
    assert list(bodies(q)) == [b"back", b"high", b"low"]


def test_the_shorter_of_two_times_counts(home: Home) -> None:
    q = queue(home, x_message_ttl=1000)
    q.publish(message(b"a", expiration=5000))
    assert home.wakes[-1] == home.now + 1
    q.purge()
    q.publish(message(b"b", expiration=500))
    assert home.wakes[-1] == home.now + 0.5


def test_a_requeued_message_keeps_its_time(home: Home) -> None:
    q = queue(home)
    q.publish(message(b"a", expiration=100))
    entry = q.get()
    assert entry is not None
    q.taken(entry, no_ack=False)
    home.now += 0.15
    q.requeue([entry], is_failure=True)
    assert list(bodies(q)) == []


def test_a_time_of_nothing_still_reaches_a_waiting_consumer(home: Home) -> None:
    q, channel = queue(home, x_message_ttl=0), Receiver()
    q.publish(message(b"a"))
    consumer(q, channel)
    q.publish(message(b"b"))
    assert [body for _, body, _ in channel.got] == [b"b"]


@pytest.mark.parametrize(
    ("kind", "overflow", "kept", "answers", "letters"),
    [
        ("classic", "drop-head", b"45", "111111", b"0123"),
        ("classic", "reject-publish", b"01", "110000", b""),
        ("classic", "reject-publish-dlx", b"01", "110000", b"2345"),
        ("quorum", "drop-head", b"45", "111111", b"0123"),
        ("quorum", "reject-publish", b"012", "111000", b""),
        ("quorum", "reject-publish-dlx", b"45", "111111", b"0123"),
    ],
)
def test_overflow(home: Home, kind: str, overflow: str, kept: bytes, answers: str, letters: bytes) -> None:
    q = queue(home, x_queue_type=kind, x_max_length=2, x_overflow=overflow, x_dead_letter_exchange="")
    taken = [q.publish(message(b"%d" % place)) for place in range(6)]
    assert "".join(str(int(one)) for one in taken) == answers
    assert b"".join(bodies(q)) == kept
    assert b"".join(body for body, _ in home.letters) == letters
    assert {reason for _, reason in home.letters} <= {"maxlen"}


def test_the_dropped_head_is_the_one_that_would_leave_next(home: Home) -> None:
    q = queue(home, x_max_length=3, x_max_priority=5)
    for place, priority in enumerate((5, 1, 0, 3, 4, 0)):
        q.publish(message(b"%d" % place, priority))
    assert b"".join(bodies(q)) == b"125"


def test_bytes_are_bounded_too(home: Home) -> None:
    q = queue(home, x_max_length_bytes=5)
    for body in (b"aaa", b"bb", b"c"):
        q.publish(message(body))
    assert list(bodies(q)) == [b"bb", b"c"]


def test_a_delivery_limit_counts_failures_only(home: Home) -> None:
    q = queue(home, x_queue_type="quorum", x_delivery_limit=1, x_dead_letter_exchange="")
    q.publish(message(b"a"))
    for is_failure in (False, False, True, True):
        entry = q.get()
        assert entry is not None
        q.taken(entry, no_ack=False)
        q.requeue([entry], is_failure=is_failure)
    assert q.get() is None
    assert home.letters == [(b"a", "delivery_limit")]


def test_consumers_take_turns(home: Home) -> None:
    q, channel = queue(home), Receiver()
    for tag in "abc":
        consumer(q, channel, tag)
    for _ in range(4):
        q.publish(message(b"m"))
    assert [tag for tag, _, _ in channel.got] == ["a", "b", "c", "a"]


def test_higher_consumers_first_until_their_prefetch_is_used_up(home: Home) -> None:
    q, channel = queue(home), Receiver()
    consumer(q, channel, "low", prefetch=2)
    high = consumer(q, channel, "high", prefetch=2, priority=5)
    for _ in range(4):
        q.publish(message(b"m"))
    assert [tag for tag, _, _ in channel.got] == ["high", "high", "low", "low"]
    q.publish(message(b"n"))
    assert len(channel.got) == 4
    q.ack(channel.entries[0], high)
    assert channel.got[-1] == ("high", b"n", False)


def test_one_consumer_is_active_and_the_oldest_follows(home: Home) -> None:
    q, channel = queue(home, x_single_active_consumer=True), Receiver()
    first = consumer(q, channel, "a")
    consumer(q, channel, "b")
    q.publish(message(b"1"))
    q.unsubscribe(first)
    q.publish(message(b"2"))
    assert [(tag, body) for tag, body, _ in channel.got] == [("a", b"1"), ("b", b"2")]


def test_a_slow_reader_gets_nothing_until_it_reads(home: Home) -> None:
    q, channel = queue(home), Receiver()
    made = consumer(q, channel, no_ack=True)
    channel.output.is_backed_up = True
    q.publish(message(b"a"))
    assert channel.got == []
    channel.output.is_backed_up = False
    q.wake(made)
    assert [body for _, body, _ in channel.got] == [b"a"]


def test_an_unused_queue_expires(home: Home) -> None:
    q = queue(home, x_expires=1000)
    home.now += 0.9
    assert not q.is_expired()
    q.get()
    home.now += 0.9
    assert not q.is_expired()
    home.now += 0.2
    assert q.is_expired()


def test_a_consumer_keeps_a_queue_from_expiring(home: Home) -> None:
    q, channel = queue(home, x_expires=1000), Receiver()
    made = consumer(q, channel)
    home.now += 5
    assert not q.is_expired()
    q.unsubscribe(made)
    assert not q.is_expired()
    home.now += 1
    assert q.is_expired()


def test_a_publication_costs_the_same_in_a_long_queue(home: Home) -> None:
    # Counted, not timed: the calls that Python makes for one publish and one get do not depend on the length.
    import sys

    def calls(q: Queue) -> int:
        count = 0

        def trace(_frame: object, event: str, _argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(trace)
        q.publish(message(b"m", 3))
        entry = q.get()
        sys.setprofile(None)
        assert entry is not None
        return count

    q = queue(home, x_max_priority=10)
    q.publish(message(b"m", 3))
    first = calls(q)
    for _ in range(20_000):
        q.publish(message(b"m", 3))
    assert calls(q) == first
