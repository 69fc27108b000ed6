"""Classic and quorum queues beside each other: exclusive consumers, full queues, deliveries that failed.

Every row was measured on RabbitMQ 4.3.6 and is asked of it again, where it's at hand, and of the embedded broker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from tests.support.brokers import BROKERS, broker_wire, embedded_url, fresh
from tests.support.programs import PATIENCE
from tests.support.wire import Arrived, Wire

Basic, Queue = commands.Basic, commands.Queue


@pytest.fixture(params=BROKERS)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    yield from broker_wire(request)


def publish(wire: Wire, key: str, body: bytes, **properties: Any) -> None:
    wire.publish(1, Basic.Publish(routing_key=key), body, **properties)


@contextmanager
def lasting(wire: Wire, arguments: dict[str, Any]) -> Iterator[str]:
    """A durable queue, as quorum queues are; deleted at the end."""
    name = fresh()
    assert wire.call(1, Queue.Declare(queue=name, durable=True, arguments=arguments)).name == "Queue.DeclareOk"
    try:
        yield name
    finally:
        with Wire(wire.url) as last:
            last.open_channel()
            last.call(1, Queue.Delete(queue=name))


EXCLUSIVE_CONSUMERS = [
    # type, single active consumer, is the first exclusive, is the second, what they are answered
    ("classic", False, False, False, "taken taken"),
    ("classic", False, False, True, "taken refused"),
    ("classic", False, True, False, "taken refused"),
    ("classic", False, True, True, "taken refused"),
    ("classic", True, False, False, "taken taken"),
    ("classic", True, False, True, "taken refused"),
    ("classic", True, True, False, "refused taken"),
    ("classic", True, True, True, "refused refused"),
    ("quorum", False, False, True, "taken taken"),
    ("quorum", False, True, False, "taken taken"),
    ("quorum", False, True, True, "taken taken"),
    ("quorum", True, False, True, "taken taken"),
    ("quorum", True, True, False, "taken taken"),
    ("quorum", True, True, True, "taken taken"),
]
"""Measured on RabbitMQ 4.3.6: it asks neither which channel or connection the first is on, nor for acknowledgements."""


@pytest.mark.parametrize(("first_no_ack", "second_no_ack"), [(False, False), (True, True), (False, True)])
@pytest.mark.parametrize("other", ["same channel", "other channel", "other connection"])
@pytest.mark.parametrize(("kind", "is_single", "first", "second", "answers"), EXCLUSIVE_CONSUMERS)
def test_an_exclusive_consumer_is_alone_on_a_classic_queue_only(
    wire: Wire,
    kind: str,
    is_single: bool,
    first: bool,
    second: bool,
    answers: str,
    other: str,
    first_no_ack: bool,
    second_no_ack: bool,
) -> None:
    with lasting(wire, {"x-queue-type": kind, "x-single-active-consumer": is_single}) as queue, Wire(wire.url) as apart:
        wire.open_channel(2)
        apart.open_channel(1)
        at, channel = (apart, 1) if other == "other connection" else (wire, 2 if other == "other channel" else 1)
        one = consume(wire, 1, queue, exclusive=first, no_ack=first_no_ack)
        assert f"{one} {consume(at, channel, queue, exclusive=second, no_ack=second_no_ack)}" == answers


def consume(wire: Wire, channel: int, queue: str, **options: Any) -> str:
    """Whether a consumer is taken or refused; a channel that was closed for it is opened again."""
    answer = wire.call(channel, Basic.Consume(queue=queue, **options))
    if answer.name == "Basic.ConsumeOk":
        return "taken"
    assert answer.method.reply_code == 403
    assert (
        answer.method.reply_text == f"ACCESS_REFUSED - queue '{queue}' in vhost '{wire.address.vhost}' in exclusive use"
    )
    wire.send(channel, commands.Channel.CloseOk())
    wire.open_channel(channel)
    return "refused"


def test_exclusive_consumers_of_a_quorum_queue_take_turns(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "quorum"}) as queue:
        for tag in ("a", "b"):
            wire.call(1, Basic.Consume(queue=queue, consumer_tag=tag, exclusive=True, no_ack=True))
        for body in (b"1", b"2"):
            publish(wire, queue, body)
        assert {wire.wait_for("Basic.Deliver").method.consumer_tag for _ in range(2)} == {"a", "b"}


@pytest.mark.parametrize(("kind", "deliveries"), [("classic", [False]), ("quorum", [False, True])])
def test_what_comes_back_to_a_full_queue_may_find_a_consumer_first(
    wire: Wire, kind: str, deliveries: list[bool]
) -> None:
    with lasting(wire, {"x-queue-type": kind, "x-max-length": 0}) as queue:
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="c"))
        publish(wire, queue, b"m")
        for is_redelivered in deliveries:
            delivered = wire.wait_for("Basic.Deliver").method
            assert delivered.redelivered is is_redelivered
            wire.send(1, Basic.Nack(delivered.delivery_tag))
        if kind == "classic":
            publish(wire, queue, b"later")
            assert wire.wait_for("Basic.Deliver").body == b"later"


FAILED_DELIVERIES = [
    # from, to, how it was refused, whether it waited for its consumer, is it redelivered, acquired, failed
    ("classic", "classic", "nack", False, False, None, None),
    ("classic", "classic", "nack", True, False, None, None),
    ("classic", "classic", "reject", False, False, None, None),
    ("classic", "classic", "reject", True, True, None, None),
    ("classic", "quorum", "nack", True, False, None, None),
    ("classic", "quorum", "reject", False, True, 1, 1),
    ("classic", "quorum", "reject", True, True, 1, 1),
    ("quorum", "classic", "reject", False, False, None, None),
    ("quorum", "classic", "reject", True, True, None, None),
    ("quorum", "quorum", "nack", False, False, None, None),
    ("quorum", "quorum", "reject", False, True, 1, 1),
]


@pytest.mark.parametrize(
    ("source", "target", "how", "waits", "is_redelivered", "acquired", "failed"), FAILED_DELIVERIES
)
def test_a_dead_letter_takes_its_failures_with_it(
    wire: Wire,
    source: str,
    target: str,
    how: str,
    waits: bool,
    is_redelivered: bool,
    acquired: int | None,
    failed: int | None,
) -> None:
    with lasting(wire, {"x-queue-type": target}) as letters:
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters}
        with lasting(wire, {"x-queue-type": source, **arguments}) as queue:
            publish(wire, queue, b"m")
            if not waits:
                wire.call(1, Basic.Consume(queue=letters))
            refuse(wire, taken_by_consumer(wire, queue), how)
            if waits:
                until(wire, letters, 1)
                wire.call(1, Basic.Consume(queue=letters))
            letter = wire.wait_for("Basic.Deliver")
            headers = letter.headers
            assert (letter.method.redelivered, headers.get("x-acquired-count"), headers.get("x-delivery-count")) == (
                is_redelivered,
                acquired,
                failed,
            )
            assert list(headers) == sorted(headers)


def taken_by_consumer(wire: Wire, queue: str) -> int:
    """The tag of the delivery to a consumer of this queue."""
    wire.call(1, Basic.Consume(queue=queue))
    tag: int = wire.wait_for("Basic.Deliver").method.delivery_tag
    return tag


def refuse(wire: Wire, tag: int, how: str) -> None:
    """Refuse a delivery for good."""
    wire.send(1, Basic.Nack(tag, requeue=False) if how == "nack" else Basic.Reject(tag, requeue=False))


def until(wire: Wire, queue: str, count: int) -> None:
    """Return when so many messages wait: the broker is asked, and each question waits for its answer."""
    deadline = time.monotonic() + PATIENCE
    while asked(wire, queue).method.message_count != count:
        assert time.monotonic() < deadline, f"{queue} never held {count} messages"


def asked(wire: Wire, queue: str) -> Arrived:
    """What a passive declaration says."""
    return wire.call(1, Queue.Declare(queue=queue, passive=True))


@pytest.mark.parametrize(("limit", "again"), [(1, Basic.Reject), (0, Basic.Nack)])
def test_failures_before_a_dead_letter_count_against_the_delivery_limit(wire: Wire, limit: int, again: Any) -> None:
    """`basic.nack` is no failure, and still too much where there had been more than the limit before."""
    with lasting(wire, {"x-queue-type": "classic"}) as lost:
        limited = {"x-delivery-limit": limit, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": lost}
        with lasting(wire, {"x-queue-type": "quorum", **limited}) as letters:
            arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters}
            with lasting(wire, {"x-queue-type": "classic", **arguments}) as queue:
                publish(wire, queue, b"m")
                refuse(wire, taken_by_consumer(wire, queue), "reject")
                wire.send(1, again(taken_by_consumer(wire, letters), requeue=True))
                until(wire, lost, 1)
                got = wire.call(1, Basic.Get(queue=lost, no_ack=True))
                assert got.headers["x-last-death-reason"] == "delivery_limit"


def test_a_second_death_names_the_exchange_that_it_came_by(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "classic", "x-dead-letter-exchange": "amq.fanout"}) as queue:
        wire.call(1, Queue.Bind(queue=queue, exchange="amq.fanout"))
        publish(wire, queue, b"m")
        refuse(wire, taken_by_consumer(wire, queue), "reject")
        refuse(wire, wire.wait_for("Basic.Deliver").method.delivery_tag, "reject")
        letter = wire.wait_for("Basic.Deliver")
        exchanges = [letter.headers[f"x-{which}-death-exchange"] for which in ("first", "last")]
        assert [*exchanges, letter.headers["x-death"][0]["exchange"]] == ["", "amq.fanout", ""]


@pytest.mark.parametrize(("kind", "counted"), [("classic", 0), ("quorum", 1)])
def test_a_cancelled_consumer_counts_while_its_deliveries_are_out(wire: Wire, kind: str, counted: int) -> None:
    with lasting(wire, {"x-queue-type": kind}) as queue:
        publish(wire, queue, b"m")
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="c"))
        tag = wire.wait_for("Basic.Deliver").method.delivery_tag
        wire.call(1, Basic.Cancel("c"))
        assert asked(wire, queue).method.consumer_count == counted
        wire.send(1, Basic.Ack(tag))
        deadline = time.monotonic() + PATIENCE
        while asked(wire, queue).method.consumer_count:
            assert time.monotonic() < deadline, "the consumer never went"


def test_a_cancelled_consumer_that_comes_back_to_a_quorum_queue_is_the_same(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "quorum"}) as queue:
        publish(wire, queue, b"m")
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="c"))
        tag = wire.wait_for("Basic.Deliver").method.delivery_tag
        wire.call(1, Basic.Cancel("c"))
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="c"))
        assert asked(wire, queue).method.consumer_count == 1
        wire.send(1, Basic.Ack(tag))
        assert wire.call(1, Basic.Qos()).name == "Basic.QosOk"
        assert asked(wire, queue).method.consumer_count == 1


def test_one_that_comes_back_without_acknowledgements_waits_for_what_it_has_out(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "quorum"}) as queue:
        wire.call(1, Basic.Qos(prefetch_count=1))
        publish(wire, queue, b"1")
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="c"))
        tag = wire.wait_for("Basic.Deliver").method.delivery_tag
        wire.call(1, Basic.Cancel("c"))
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="c", no_ack=True))
        for body in (b"2", b"3"):
            publish(wire, queue, body)
        until(wire, queue, 2)
        wire.send(1, Basic.Ack(tag))
        assert [wire.wait_for("Basic.Deliver").body for _ in range(2)] == [b"2", b"3"]


@pytest.mark.parametrize(("limit", "is_kept"), [(9, True), (8, False)])
def test_a_dead_letter_counts_in_a_quorum_queue_what_it_was_published_with(
    wire: Wire, limit: int, is_kept: bool
) -> None:
    with lasting(wire, {}) as lost:
        letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": lost}
        with lasting(wire, {"x-queue-type": "quorum", "x-max-length-bytes": limit, **letters}) as bounded:
            letters["x-dead-letter-routing-key"] = bounded
            with lasting(wire, {"x-message-ttl": 0, **letters}) as queue:
                publish(wire, queue, b"12345", correlation_id="k")  # two bytes of flags, two of the correlation id
                until(wire, bounded if is_kept else lost, 1)


def test_what_a_quorum_queue_gives_to_a_connection_that_is_refused_comes_back(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "quorum"}) as queue, Wire(wire.url) as refused:
        for channel in (1, 2):
            refused.open_channel(channel)
        publish(wire, queue, b"m")
        refused.call(1, Basic.Consume(queue=queue, consumer_tag="c"))
        refused.wait_for("Basic.Deliver")
        refused.call(2, Basic.Consume(queue=queue, no_ack=True))
        refused.send(1, Basic.Consume(queue=queue, consumer_tag="c"))
        assert refused.wait_for("Connection.Close").method.reply_code == 530
        until(wire, queue, 1)
        got = wire.call(1, Basic.Get(queue=queue, no_ack=True)).properties
        assert got is not None
        assert got.headers == {"x-acquired-count": 2, "x-delivery-count": 2}


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_single_active_consumer_goes_on_when_its_prefetch_is_free(wire: Wire, kind: str) -> None:
    with lasting(wire, {"x-queue-type": kind, "x-single-active-consumer": True}) as queue:
        wire.call(1, Basic.Qos(prefetch_count=1))
        wire.call(1, Basic.Consume(queue=queue))
        for body in (b"1", b"2"):
            publish(wire, queue, body)
        wire.send(1, Basic.Ack(wire.wait_for("Basic.Deliver").method.delivery_tag))
        assert wire.wait_for("Basic.Deliver").body == b"2"


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("end", ["channel", "connection", "socket"])
def test_the_next_active_consumer_gets_first_what_comes_back(wire: Wire, kind: str, end: str) -> None:
    with (
        lasting(wire, {"x-queue-type": kind, "x-single-active-consumer": True}) as queue,
        Wire(wire.url) as first,
    ):
        first.open_channel()
        first.call(1, Basic.Qos(prefetch_count=2))
        first.call(1, Basic.Consume(queue=queue))
        wire.call(1, Basic.Consume(queue=queue))
        for body in (b"1", b"2", b"3", b"4"):
            publish(wire, queue, body)
        assert [first.wait_for("Basic.Deliver").body for _ in range(2)] == [b"1", b"2"]
        if end == "channel":
            first.call(1, commands.Channel.Close(200, "", 0, 0))
        elif end == "connection":
            first.call(0, commands.Connection.Close(200, "", 0, 0))
        else:
            first.drop()
        found = [wire.wait_for("Basic.Deliver") for _ in range(4)]
        assert [(one.body, one.method.redelivered) for one in found] == [
            (b"1", True), (b"2", True), (b"3", False), (b"4", False)
        ]  # fmt: skip


# type, (priority, prefetch) of each consumer -> the order in which they become active
SUCCESSIONS = [
    ("classic", [(0, 0), (0, 0), (0, 0)], [0, 1, 2]),
    ("classic", [(0, 0), (1, 0), (5, 0), (2, 0)], [0, 2, 3, 1]),
    ("quorum", [(0, 1), (1, 1), (5, 1), (2, 1)], [0, 2, 3, 1]),
    ("quorum", [(0, 1), (0, 1), (0, 5), (0, 2)], [0, 2, 3, 1]),
    ("quorum", [(0, 1), (0, 1), (0, 0), (0, 500)], [0, 2, 3, 1]),
]


@pytest.mark.parametrize(("kind", "given", "order"), SUCCESSIONS)
def test_who_becomes_the_active_consumer(wire: Wire, kind: str, given: list[tuple[int, int]], order: list[int]) -> None:
    """Each is asked by a message, which it keeps until it leaves with it."""
    with lasting(wire, {"x-queue-type": kind, "x-single-active-consumer": True}) as queue:
        publish(wire, queue, b"m")
        until(wire, queue, 1)
        for number, (priority, prefetch) in enumerate(given, 2):
            wire.open_channel(number)
            wire.call(number, Basic.Qos(prefetch_count=prefetch))
            wire.call(number, Basic.Consume(queue=queue, consumer_tag=str(number), arguments={"x-priority": priority}))
            if number == 2:
                delivery = wire.wait_for("Basic.Deliver")
        seen = []
        for _ in given:
            seen.append(int(delivery.method.consumer_tag) - 2)
            wire.send(seen[-1] + 2, commands.Channel.Close(200, "", 0, 0))
            if len(seen) < len(given):
                delivery = wire.wait_for("Basic.Deliver")
        assert seen == order


def test_a_quorum_queue_gives_no_more_to_an_active_consumer_of_lower_priority(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "quorum", "x-single-active-consumer": True}) as queue:
        wire.open_channel(2)
        wire.call(1, Basic.Qos(prefetch_count=5))
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="low"))
        publish(wire, queue, b"1")
        tag = wire.wait_for("Basic.Deliver").method.delivery_tag
        wire.call(2, Basic.Consume(queue=queue, consumer_tag="high", arguments={"x-priority": 5}))
        publish(wire, queue, b"2")
        until(wire, queue, 1)
        wire.send(1, Basic.Ack(tag))
        second = wire.wait_for("Basic.Deliver")
        assert (second.method.consumer_tag, second.body) == ("high", b"2")


def test_a_classic_queue_keeps_and_delivers_what_has_expired_and_came_first_by_its_priority(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "classic", "x-max-priority": 1}) as queue:
        publish(wire, queue, b"low")
        publish(wire, queue, b"high", priority=1, expiration="0")
        until(wire, queue, 2)
        wire.call(1, Basic.Consume(queue=queue))
        assert [wire.wait_for("Basic.Deliver").body for _ in range(2)] == [b"high", b"low"]


@pytest.mark.parametrize(
    ("kind", "no_ack", "count"),
    [("classic", False, 0), ("classic", True, 0), ("quorum", False, 1)],
)
def test_an_expired_message_behind_the_head_is_counted_or_not(wire: Wire, kind: str, no_ack: bool, count: int) -> None:
    with lasting(wire, {"x-queue-type": kind}) as queue:
        publish(wire, queue, b"head")
        publish(wire, queue, b"expired", expiration="0")
        until(wire, queue, 2)
        assert wire.call(1, Basic.Get(queue=queue, no_ack=no_ack)).method.message_count == count
        until(wire, queue, 0)


def test_what_is_first_when_others_were_pushed_out_may_have_expired(wire: Wire) -> None:
    with lasting(wire, {"x-max-length": 1}) as queue:
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="c"))
        publish(wire, queue, b"pushed out")
        publish(wire, queue, b"expired", expiration="0")
        last = [wire.wait_for("Basic.Deliver").method.delivery_tag for _ in range(2)][-1]
        wire.call(1, Basic.Cancel("c"))
        wire.send(1, Basic.Nack(last, multiple=True))
        until(wire, queue, 0)


def test_a_message_without_time_takes_its_place_in_a_full_quorum_queue_before_it_goes(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "quorum", "x-max-length": 1}) as queue:
        publish(wire, queue, b"first")
        until(wire, queue, 1)
        publish(wire, queue, b"second", expiration="0")
        until(wire, queue, 0)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_goes_back_together_goes_back_consumer_by_consumer_in_the_order_of_their_tags(
    wire: Wire, kind: str
) -> None:
    with lasting(wire, {"x-queue-type": kind}) as queue:
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="z"))
        publish(wire, queue, b"1")
        wire.wait_for("Basic.Deliver")
        wire.call(1, Basic.Consume(queue=queue, consumer_tag="a"))
        for body, tag in ((b"2", "z"), (b"3", "a")):
            publish(wire, queue, body)
            assert wire.wait_for("Basic.Deliver").method.consumer_tag == tag
        wire.send(1, Basic.Nack(0, multiple=True))
        again = [wire.wait_for("Basic.Deliver") for _ in range(3)]
        assert {one.body: one.method.consumer_tag for one in again} == {b"3": "z", b"1": "a", b"2": "z"}


def test_a_channel_that_ends_gives_back_to_a_quorum_queue_consumer_by_consumer(wire: Wire) -> None:
    with lasting(wire, {"x-queue-type": "quorum"}) as queue, Wire(wire.url) as other:
        other.open_channel()
        for tag in ("a", "b"):
            wire.call(1, Basic.Consume(queue=queue, consumer_tag=tag))
        publish(wire, queue, b"1")
        first = wire.wait_for("Basic.Deliver").method
        publish(wire, queue, b"2", expiration="0")
        assert (first.consumer_tag, wire.wait_for("Basic.Deliver").method.consumer_tag) == ("a", "b")
        wire.send(1, Basic.Nack(first.delivery_tag))
        assert wire.wait_for("Basic.Deliver").method.consumer_tag == "a"
        wire.call(1, commands.Channel.Close(200, "", 0, 0))
        until(other, queue, 2)  # the expired one is behind the first again, though it was delivered before it
        wire.open_channel()


@pytest.mark.parametrize(("kind", "channel"), [("classic", 1), ("quorum", 2)])
def test_who_is_next_when_a_prefetch_was_used_up_and_is_free_again(wire: Wire, kind: str, channel: int) -> None:
    with lasting(wire, {"x-queue-type": kind}) as queue:
        wire.open_channel(2)
        wire.call(1, Basic.Qos(prefetch_count=1))
        publish(wire, queue, b"1")
        wire.call(1, Basic.Consume(queue=queue))
        tag = wire.wait_for("Basic.Deliver").method.delivery_tag
        wire.call(2, Basic.Consume(queue=queue))
        wire.send(1, Basic.Ack(tag))
        wire.call(1, Basic.Qos(prefetch_count=1))
        publish(wire, queue, b"2")
        assert wire.wait_for("Basic.Deliver").channel == channel


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_cancels_come_in_the_order_of_their_tags(wire: Wire, kind: str) -> None:
    with lasting(wire, {"x-queue-type": kind}) as queue:
        for tag in ("z", "a", "m"):
            wire.call(1, Basic.Consume(queue=queue, consumer_tag=tag))
        wire.call(1, Queue.Delete(queue=queue))
        assert [wire.wait_for("Basic.Cancel").method.consumer_tag for _ in range(3)] == ["a", "m", "z"]


# RabbitMQ's queues are processes of their own: these it does most of the time, the embedded broker always.


def test_an_expired_message_behind_the_head_is_not_counted_without_acknowledgement() -> None:
    for url in embedded_url():
        with Wire(url) as wire:
            wire.open_channel()
            wire.call(1, Queue.Declare(queue="q", durable=True, arguments={"x-queue-type": "quorum"}))
            publish(wire, "q", b"head")
            publish(wire, "q", b"expired", expiration="0")
            assert wire.call(1, Basic.Get(queue="q", no_ack=True)).method.message_count == 0


def test_a_copy_comes_before_the_dead_letter_of_another() -> None:
    for url in embedded_url():
        with Wire(url) as wire:
            wire.open_channel()
            wire.call(1, Queue.Declare(queue="copies"))
            arguments: FieldTable = {"x-message-ttl": 0, "x-dead-letter-exchange": ""}
            arguments["x-dead-letter-routing-key"] = "copies"
            wire.call(1, Queue.Declare(queue="dying", arguments=arguments))
            wire.call(1, Basic.Consume(queue="copies", no_ack=True))
            publish(wire, "dying", b"m", headers={"CC": ["copies"]})
            copies = [wire.wait_for("Basic.Deliver") for _ in range(2)]
            assert ["x-death" in copy.headers for copy in copies] == [False, True]


def test_nothing_is_given_to_a_consumer_whose_connection_ends() -> None:
    for url in embedded_url():
        with Wire(url) as wire, Wire(url) as other:
            other.open_channel()
            for channel in (1, 2):
                wire.open_channel(channel)
            wire.call(1, Queue.Declare(queue="q"))
            publish(wire, "q", b"m")
            wire.call(1, Basic.Consume(queue="q"))
            wire.wait_for("Basic.Deliver")
            wire.call(2, Basic.Consume(queue="q", no_ack=True))
            wire.call(0, commands.Connection.Close(200, "", 0, 0))
            assert asked(other, "q").method.message_count == 1


def test_what_the_guilty_channel_had_is_given_to_the_others_of_its_connection() -> None:
    for url in embedded_url():
        with Wire(url) as wire:
            for channel in (1, 2):
                wire.open_channel(channel)
            wire.call(1, Queue.Declare(queue="q"))
            wire.call(1, Basic.Consume(queue="q", consumer_tag="c"))
            publish(wire, "q", b"m")
            wire.wait_for("Basic.Deliver")
            wire.call(2, Basic.Consume(queue="q"))
            wire.send(1, Basic.Consume(queue="q", consumer_tag="c"))
            assert wire.wait_for("Basic.Deliver", "Connection.Close").channel == 2
            assert wire.wait_for("Connection.Close").method.reply_code == 530
