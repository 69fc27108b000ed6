"""Frames in the wrong order, frames that are none, and methods out of place.

One table, two brokers: every answer was measured on RabbitMQ 4.3.6 and is asked of it again where one is at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
from pamqp import commands, frame
from pamqp.common import FieldTable

from tests.support.brokers import BROKERS, broker_url, embedded_url
from tests.support.wire import PROTOCOL_HEADER, Closed, Wire
from waybill.broker.handshake import BEHAVES_AS


def raw(kind: int, channel: int, payload: bytes, end: int = 0xCE) -> bytes:
    """A frame, well made or not."""
    return pack(">BHI", kind, channel, len(payload)) + payload + bytes((end,))


OPEN = frame.marshal(commands.Channel.Open(), 1)
PUBLISH = frame.marshal(commands.Basic.Publish(routing_key="nobody"), 1)
QOS = frame.marshal(commands.Basic.Qos(), 1)


def header(size: int, class_id: int = 60, weight: int = 0) -> bytes:
    """A content header without properties."""
    return raw(2, 1, pack(">HHQH", class_id, weight, size, 0))


UNEXPECTED_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
NO_HEADER = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
OTHER_CLASS = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"
NO_BODY = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"
RUNNING = "CHANNEL_ERROR - unexpected method in connection state running"
EXPECTED_OPEN = "CHANNEL_ERROR - expected 'channel.open'"
TOO_LARGE = "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,200000,131064}"
BAD_END = 'FRAME_ERROR - type 1, all octets = <<"ab">>: {invalid_frame_end_marker,0}'
TOO_BIG = "FRAME_ERROR - content body size 1099511627776 exceeds maximum allowed size 536870912"

CASES: dict[str, tuple[bytes, tuple[int, str, int, int]]] = {
    "a frame of no known type": (
        raw(9, 0, b"ab"),
        (501, 'FRAME_ERROR - type 9, all octets = <<"ab">>: unknown_frame', 0, 0),
    ),
    "a wrong end": (raw(1, 0, b"ab", 0), (501, BAD_END, 0, 0)),
    "an empty method": (raw(1, 0, b""), (501, "FRAME_ERROR - type 1, all octets = <<>>: unknown_frame", 0, 0)),
    "a short header on channel 0": (
        raw(2, 0, b"ab"),
        (501, 'FRAME_ERROR - type 2, all octets = <<"ab">>: unknown_frame', 0, 0),
    ),
    "a body on channel 0": (raw(3, 0, b"ab"), (505, 'UNEXPECTED_FRAME - type 3, all octets = <<"ab">>', 0, 0)),
    "a frame that is too large": (pack(">BHI", 1, 0, 200000), (501, TOO_LARGE, 0, 0)),
    "a heartbeat on a channel": (raw(8, 1, b""), (505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", 0, 0)),
    "a heartbeat with a payload": (
        raw(8, 0, b"abc"),
        (501, 'FRAME_ERROR - type 8, all octets = <<"abc">>: unknown_frame', 0, 0),
    ),
    "a channel's method on channel 0": (raw(1, 0, b"\0\x14\0\x0a\0"), (504, RUNNING, 20, 10)),
    "start-ok again": (frame.marshal(commands.Connection.StartOk(), 0), (504, RUNNING, 10, 11)),
    "open again": (frame.marshal(commands.Connection.Open(), 0), (504, RUNNING, 10, 40)),
    "close-ok unasked": (frame.marshal(commands.Connection.CloseOk(), 0), (504, RUNNING, 10, 51)),
    "a body on a new channel": (raw(3, 1, b"ab"), (505, UNEXPECTED_METHOD, 0, 0)),
    "a method before channel.open": (
        frame.marshal(commands.Queue.Declare(queue="abc"), 1),
        (504, EXPECTED_OPEN, 50, 10),
    ),
    "channel.close before channel.open": (
        frame.marshal(commands.Channel.Close(200, "x", 0, 0), 5),
        (504, EXPECTED_OPEN, 20, 40),
    ),
    "channel.open again": (OPEN + OPEN, (504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10)),
    "a body without a method": (OPEN + raw(3, 1, b"ab"), (505, UNEXPECTED_METHOD, 0, 0)),
    "a header without a method": (OPEN + header(3), (505, UNEXPECTED_METHOD, 0, 0)),
    "a short header": (
        OPEN + raw(2, 1, b"ab"),
        (501, 'FRAME_ERROR - type 2, all octets = <<"ab">>: unknown_frame', 0, 0),
    ),
    "a method that ends early": (
        OPEN + raw(1, 1, b"\0\x32\0\x0a\0\0\x05ab"),
        (501, "FRAME_ERROR - cannot decode <<0,0,5,97,98>>", 50, 10),
    ),
    "a method without arguments": (
        OPEN + raw(1, 1, b"\0\x14\0\x28"),
        (501, "FRAME_ERROR - cannot decode <<>>", 20, 40),
    ),
    "a server's method": (
        OPEN + frame.marshal(commands.Basic.QosOk(), 1),
        (503, "COMMAND_INVALID - unimplemented method", 60, 11),
    ),
    "a name that is no UTF-8": (
        OPEN + raw(1, 1, b"\0\x32\0\x0a\0\0\x02\xff\xfe\0\0\0\0\0"),
        (501, "FRAME_ERROR - Malformed UTF-8 in shortstr", 0, 0),
    ),
    "a method where the header belongs": (OPEN + PUBLISH + QOS, (505, NO_HEADER, 60, 40)),
    "a body where the header belongs": (OPEN + PUBLISH + raw(3, 1, b"ab"), (505, NO_HEADER, 60, 40)),
    "a header of another class": (OPEN + PUBLISH + header(3, 50), (505, OTHER_CLASS, 60, 40)),
    "a header with a weight": (OPEN + PUBLISH + header(0, weight=1) + QOS, (505, NO_HEADER, 60, 40)),
    "a method where the body belongs": (OPEN + PUBLISH + header(3) + QOS, (505, NO_BODY, 60, 40)),
    "a body longer than announced": (
        OPEN + PUBLISH + header(3) + raw(3, 1, b"abcd"),
        (501, "FRAME_ERROR - content body frame exceeds remaining content size", 60, 40),
    ),
    "a body too large to announce": (OPEN + PUBLISH + header(2**40), (501, TOO_BIG, 60, 40)),
    "a header without flags": (
        OPEN + PUBLISH + raw(2, 1, pack(">HHQ", 60, 0, 0)),
        (541, "INTERNAL_ERROR", 0, 0),
    ),
    "properties that end early": (
        OPEN + PUBLISH + raw(2, 1, pack(">HHQH", 60, 0, 0, 0x8000) + b"\x09ab"),
        (541, "INTERNAL_ERROR", 0, 0),
    ),
}


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from broker_url(request)


@pytest.mark.parametrize("name", CASES)
def test_closes_the_connection_as_rabbitmq_does(url: str, name: str) -> None:
    sent, expected = CASES[name]
    with Wire(url) as wire:
        wire.send_bytes(sent)
        close = wire.wait_for("Connection.Close").method
        assert (close.reply_code, close.reply_text, close.class_id, close.method_id) == expected


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"AMQP\0\0\x09\0", PROTOCOL_HEADER),
        (b"AMQP\0\0\x0a\0", PROTOCOL_HEADER),
        (b"AMQP\0\0\x08\0", b"AMQP\3\1\0\0"),
        (b"HTTP/1.1", b"AMQP\3\1\0\0"),
        (b"GET / HT", b"AMQP\3\1\0\0"),
    ],
)
def test_names_a_version_to_those_who_speak_another(url: str, sent: bytes, answer: bytes) -> None:
    with Wire(url, login=False) as wire:
        wire.send_bytes(sent)
        assert wire.read_to_end() == answer


@pytest.mark.parametrize("sent", [b"AMQP\3\1\0\0", b"AMQP\0\1\0\0", b"AMQP\2\1\0\0", b"\x16\3\1\2\0\1\0\1"], ids=repr)
def test_names_a_version_to_those_who_speak_amqp_1_0_or_tls(sent: bytes) -> None:
    for url in embedded_url():  # RabbitMQ speaks AMQP 1.0
        with Wire(url, login=False) as wire:
            wire.send_bytes(sent)
            assert wire.read_to_end() == b"AMQP\3\1\0\0"


def test_takes_the_header_of_0_9(url: str) -> None:
    with Wire(url, login=False) as wire:
        wire.send_bytes(b"AMQP\1\1\0\x09")
        wire.expect(commands.Connection.Start)


def test_clients_are_told_whose_behaviour_it_is(url: str) -> None:
    told = server_properties(url)
    assert (told["product"], told["version"].split(".")[:2]) == ("RabbitMQ", BEHAVES_AS.split(".")[:2])


def test_clients_are_told_whose_code_it_is() -> None:
    for url in embedded_url():
        assert server_properties(url)["platform"].startswith("Waybill ")


def server_properties(url: str) -> dict[str, Any]:
    with Wire(url, login=False) as wire:
        wire.send_bytes(PROTOCOL_HEADER)
        properties: dict[str, Any] = wire.expect(commands.Connection.Start).server_properties
        return properties


def test_content_on_a_closed_channel_is_ignored(url: str) -> None:
    with Wire(url) as wire:
        wire.open_channel()
        wire.send(1, commands.Queue.Declare(queue="no-such-queue", passive=True))
        assert wire.expect(commands.Channel.Close).reply_code == 404
        wire.send_bytes(PUBLISH + header(2) + raw(3, 1, b"hi") + QOS)
        wire.send(1, commands.Channel.CloseOk(), commands.Channel.Open())
        wire.expect(commands.Channel.OpenOk)
        wire.send_bytes(QOS)
        wire.expect(commands.Basic.QosOk)


def test_both_may_close_a_channel_at_once(url: str) -> None:
    with Wire(url) as wire:
        wire.open_channel()
        wire.send(1, commands.Queue.Declare(queue="no-such-queue", passive=True))
        wire.expect(commands.Channel.Close)
        wire.send(1, commands.Channel.Close(200, "", 0, 0))
        wire.expect(commands.Channel.CloseOk)
        wire.send(1, commands.Channel.CloseOk(), commands.Channel.Open())
        wire.expect(commands.Channel.OpenOk)


def test_an_empty_body_frame_is_no_error(url: str) -> None:
    with Wire(url) as wire:
        wire.open_channel()
        wire.send_bytes(PUBLISH + header(2) + raw(3, 1, b"") + raw(3, 1, b"ab") + QOS)
        wire.expect(commands.Basic.QosOk)


def test_a_secret_may_be_renewed(url: str) -> None:
    with Wire(url) as wire:
        wire.send(0, commands.Connection.UpdateSecret("guest", "renewed"))
        wire.expect(commands.Connection.UpdateSecretOk)


@pytest.mark.parametrize(("class_id", "method_id", "number"), [(10, 153, 0), (255, 1, 0), (60, 153, 1)])
def test_an_unknown_method_gets_an_answer(class_id: int, method_id: int, number: int) -> None:
    # RabbitMQ's reader dies of it and just closes the socket: an intentional difference.
    for url in embedded_url():
        with Wire(url) as wire:
            wire.open_channel()
            wire.send_bytes(raw(1, number, pack(">HH", class_id, method_id)))
            close = wire.wait_for("Connection.Close").method
            assert (close.reply_code, close.class_id, close.method_id) == (503, class_id, method_id)


@pytest.mark.parametrize("cut", range(0, 380, 7))
def test_a_whole_conversation_may_be_cut_anywhere(cut: int) -> None:
    for url in embedded_url():
        address = Wire(url, login=False)
        talk = PROTOCOL_HEADER + b"".join(
            frame.marshal(method, number)
            for method, number in (
                (commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"), 0),
                (commands.Connection.TuneOk(2047, 131072, 0), 0),
                (commands.Connection.Open(), 0),
                (commands.Channel.Open(), 1),
                (commands.Queue.Declare(queue="q"), 1),
                (commands.Confirm.Select(), 1),
            )
        )
        talk += address.content_bytes(1, commands.Basic.Publish(routing_key="q"), b"hello", priority=1)
        talk += frame.marshal(commands.Basic.Get(queue="q"), 1)
        with address as wire:
            wire.send_bytes(talk[:cut])
            wire.send_bytes(talk[cut:])
            got = wire.wait_for("Basic.GetOk")
            assert got.body == b"hello"
            assert [arrived.name for arrived in wire.drain()][-2:] == ["Confirm.SelectOk", "Basic.Ack"]


def test_a_wrong_password_is_refused_in_rabbitmqs_words(url: str) -> None:
    with Wire(url, login=False) as wire:
        wire.send_bytes(PROTOCOL_HEADER)
        wire.expect(commands.Connection.Start)
        properties: FieldTable = {"capabilities": {"authentication_failure_close": True}}
        wire.send(0, commands.Connection.StartOk(properties, "PLAIN", "\0guest\0wrong", "en_US"))
        close = wire.expect(commands.Connection.Close)
        assert (close.reply_code, close.class_id, close.method_id) == (403, 0, 0)
        assert close.reply_text == (
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
            "For details see the broker logfile."
        )


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [("NONSENSE", "\0guest\0guest"), ("PLAIN", "guest"), ("AMQPLAIN", "x")],
)
def test_what_is_no_login_is_closed_without_a_word(mechanism: str, response: str) -> None:
    for url in embedded_url():
        with Wire(url, login=False) as wire:
            wire.send_bytes(PROTOCOL_HEADER)
            wire.expect(commands.Connection.Start)
            wire.send(0, commands.Connection.StartOk({}, mechanism, response, "en_US"))
            with pytest.raises(Closed):
                wire.next()


@pytest.mark.parametrize("tuned", [(0, 131072), (5000, 131072), (2047, 0), (2047, 200000), (2047, 100)], ids=str)
def test_tuning_beyond_the_offer_is_closed_without_a_word(tuned: tuple[int, int]) -> None:
    for url in embedded_url():
        with Wire(url, login=False) as wire:
            wire.send_bytes(PROTOCOL_HEADER)
            wire.expect(commands.Connection.Start)
            wire.send(0, commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"))
            wire.expect(commands.Connection.Tune)
            wire.send(0, commands.Connection.TuneOk(*tuned, 0), commands.Connection.Open())
            with pytest.raises(Closed):
                wire.next()


def test_amqplain_logs_in(url: str) -> None:
    login = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest"
    with Wire(url, login=False) as wire:
        wire.send_bytes(PROTOCOL_HEADER)
        wire.expect(commands.Connection.Start)
        wire.send(0, commands.Connection.StartOk({}, "AMQPLAIN", login.decode("latin-1"), "en_US"))
        wire.expect(commands.Connection.Tune)
