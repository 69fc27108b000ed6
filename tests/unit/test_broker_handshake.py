"""A handshake by itself: bytes in, bytes and a value out."""

from __future__ import annotations

import pytest
from pamqp import base, commands, frame
from pamqp.common import FieldTable

from tests.support.wire import PROTOCOL_HEADER
from waybill.broker.frames import FrameReader
from waybill.broker.handshake import Agreement, Ending, Handshake
from waybill.broker.limits import Limits
from waybill.broker.output import Output
from waybill.errors import ProtocolRefusal

PROPERTIES: FieldTable = {"capabilities": {"authentication_failure_close": True, "consumer_cancel_notify": True}}


def start_ok(password: str = "guest", properties: FieldTable | None = None) -> base.Frame:
    return commands.Connection.StartOk(properties or {}, "PLAIN", f"\0guest\0{password}", "en_US")


def tune_ok(frame_max: int = 10_000) -> base.Frame:
    return commands.Connection.TuneOk(5, frame_max, 7)


def wire(*methods: base.Frame) -> bytes:
    return PROTOCOL_HEADER + b"".join(frame.marshal(method, 0) for method in methods)


@pytest.fixture
def output() -> Output:
    return Output(1_000_000, lambda: None)


@pytest.fixture
def handshake(output: Output) -> Handshake:
    return Handshake({"guest": "guest"}, Limits(), lambda *_: None, FrameReader(), output)


WHOLE = wire(start_ok(properties=PROPERTIES), tune_ok(), commands.Connection.Open("/shop"))
AGREED = Agreement("guest", "PLAIN", PROPERTIES, "/shop", 10_000, 5, 7, is_told_of_cancels=True)


def test_it_ends_in_what_was_agreed_and_leaves_what_came_behind(handshake: Handshake, output: Output) -> None:
    opening = frame.marshal(commands.Channel.Open(), 1)
    assert handshake.receive(WHOLE + opening) == (AGREED, [(1, 1, opening[7:-1])])
    answers, names = output.take(), []
    while answers:
        size, _, method = frame.unmarshal(answers)
        names.append(method.name)
        answers = answers[size:]
    assert names == ["Connection.Start", "Connection.Tune", "Connection.OpenOk"]


def test_a_byte_at_a_time(handshake: Handshake) -> None:
    outcomes = [handshake.receive(WHOLE[place : place + 1])[0] for place in range(len(WHOLE))]
    assert outcomes == [None] * (len(WHOLE) - 1) + [AGREED]


@pytest.mark.parametrize(
    "data",
    [
        wire(start_ok("wrong")),
        wire(commands.Connection.StartOk({}, "PLAIN", "guest", "en_US")),
        wire(commands.Connection.StartOk({}, "EXTERNAL", "", "en_US")),
        wire(tune_ok()),
        wire(start_ok(), tune_ok(4096)),
        wire(start_ok(), tune_ok(1_000_000)),
    ],
)
def test_who_is_not_trusted_is_told_nothing(handshake: Handshake, data: bytes) -> None:
    assert handshake.receive(data) == (Ending.DISTRUSTED, [])


@pytest.mark.parametrize(
    ("data", "reply_code", "text"),
    [
        (wire(start_ok("wrong", PROPERTIES)), 403, "Login was refused using authentication mechanism PLAIN."),
        (wire(start_ok(), tune_ok(), tune_ok()), 504, "unexpected method in connection state opening"),
    ],
)
def test_others_are_told(handshake: Handshake, data: bytes, reply_code: int, text: str) -> None:
    outcome, _ = handshake.receive(data)
    assert isinstance(outcome, ProtocolRefusal)
    assert outcome.reply_code == reply_code
    assert outcome.text.startswith(text)


def test_another_protocol_is_answered_with_ours(handshake: Handshake, output: Output) -> None:
    assert handshake.receive(b"AMQP\x00\x00\x09\x02") == (Ending.OTHER_PROTOCOL, [])
    assert output.take() == PROTOCOL_HEADER
