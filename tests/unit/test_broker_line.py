"""The line with faults: what passes, however the bytes come; clock and broker are the test's."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from waybill.broker import Faults
from waybill.broker.faults import Fault, Injected
from waybill.broker.line import Line

FRAME_MAX = 4096
HEADER = b"AMQP\x00\x00\x09\x01"


def letter(channel: int = 1, body: bytes = b"hello") -> bytes:
    """A publication."""
    publish = commands.Basic.Publish(routing_key="q")
    parts: list[bytes] = [marshal(publish, channel), marshal(ContentHeader(body_size=len(body)), channel)]
    return b"".join([*parts, marshal(ContentBody(body), channel)] if body else parts)


SESSION = HEADER + b"".join(
    [
        marshal(commands.Channel.Open(), 1),
        marshal(commands.Confirm.Select(), 1),
        letter(),
        letter(body=b""),
        marshal(commands.Channel.Close(200, "", 0, 0), 1),
    ]
)


def line(*faults: Fault) -> Line:
    """A line with these faults."""
    return Line(faults, 1, [], FRAME_MAX)


def passed(one: Line, now: float = 0.0) -> bytes:
    """All that the broker gets now."""
    return b"".join(iter(lambda: one.next(now), None))


def ack(tag: int, *, multiple: bool = False) -> bytes:
    """A confirm."""
    return marshal(commands.Basic.Ack(tag, multiple), 1)


@given(st.lists(st.integers(0, len(SESSION)), max_size=10))
def test_how_the_bytes_are_cut_changes_nothing(places: list[int]) -> None:
    one = line(Faults.Cut("client", 5))  # the content header of the first publication
    ends = sorted({0, *places, len(SESSION)})
    got = b""
    for start, end in pairwise(ends):
        one.take(SESSION[start:end], 0.0)
        got += passed(one)
    whole = SESSION[: SESSION.index(marshal(ContentBody(b"hello"), 1)) + 13]
    assert got == whole
    assert one.is_over


@given(st.binary(max_size=200), st.booleans())
def test_what_is_no_frame_passes_as_it_is(garbage: bytes, is_after_header: bool) -> None:
    one = line(Faults.Cut("client", 1000))
    data = (HEADER if is_after_header else b"") + garbage
    one.take(data, 0.0)
    got = passed(one)
    assert data.startswith(got)
    assert len(data) - len(got) < FRAME_MAX + 8  # the rest may still become a frame


def test_a_frame_that_is_too_large_is_not_kept() -> None:
    one = line(Faults.Cut("client", 1000))
    head = b"\x01\x00\x01" + (FRAME_MAX + 1).to_bytes(4, "big") + b"x" * 10
    one.take(HEADER + head, 0.0)
    assert passed(one) == HEADER + head


def test_a_multiple_confirm_is_taken_apart_where_one_of_it_is_withheld() -> None:
    """RabbitMQ behind the proxy confirms several at once."""
    one = line(Faults.Withhold(2))
    one.take(HEADER + marshal(commands.Confirm.Select(), 1) + letter() * 4, 0.0)
    passed(one)
    one.answered(ack(3, multiple=True), 0.0)
    assert one.take_out(0.0) == ack(1) + ack(3)
    one.answered(ack(4, multiple=True), 0.0)
    assert one.take_out(0.0) == ack(4, multiple=True)  # nothing happens to it: it passes as it is


def test_a_late_confirm_of_a_channel_that_is_closed_is_not_sent() -> None:
    one = line(Faults.Delay(seconds=1.0))
    one.take(HEADER + marshal(commands.Confirm.Select(), 1) + letter(), 0.0)
    passed(one)
    one.answered(ack(1), 0.0)
    assert one.take_out(0.0) == b""
    assert one.next_time == 1.0
    one.take(marshal(commands.Channel.Close(200, "", 0, 0), 1), 0.5)
    passed(one, 0.5)
    assert one.next_time is None
    assert one.take_out(1.0) == b""


def test_a_nacked_publication_is_an_empty_one_for_the_broker() -> None:
    one = line(Faults.Nack())
    one.take(HEADER + marshal(commands.Confirm.Select(), 1), 0.0)
    passed(one)
    one.take(letter(body=b"x" * 2000), 0.0)
    assert b"x" not in passed(one).replace(b"amq.waybill.nacked", b"")
    one.answered(ack(1), 0.0)
    assert one.take_out(0.0) == marshal(commands.Basic.Nack(1, requeue=True), 1)


def test_a_slow_reader_gets_its_bytes_by_the_clock() -> None:
    one = line(Faults.SlowReader(1000))
    one.take(HEADER + letter(), 10.0)
    assert one.next(10.0) is None
    assert not one.is_reading
    assert one.next_time == 10.005
    assert one.next(10.008) == HEADER
    assert passed(one, 11.0) == letter()
    assert one.is_reading
    assert one.next_time is None


def test_a_slow_client_gets_its_bytes_by_the_clock() -> None:
    one = line(Faults.SlowReader(1000, "client"))
    one.answered(ack(1), 0.0)
    assert one.take_out(0.0) == b""
    assert one.unread == len(ack(1))
    assert one.take_out(0.004) + one.take_out(1.0) == ack(1)


def test_what_has_happened_is_noted() -> None:
    noted: list[Injected] = []
    faults = (Faults.Withhold(), Faults.Cut("client", 8))
    one = Line(faults, 3, noted, FRAME_MAX)
    one.take(SESSION, 0.0)
    passed(one)
    assert noted == [Injected(Faults.Cut("client", 8), 3, 8)]
