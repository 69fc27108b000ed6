"""Hostile and unlucky clients: every bound holds, and no connection disturbs another."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import pack
from typing import Any

import pytest
from pamqp import commands, frame
from pamqp.common import FieldTable

from tests.support.wire import PROTOCOL_HEADER, Closed, Wire
from waybill.broker import Broker, Limits
from waybill.broker.limits import MAX_MESSAGE_BYTES, PRE_LOGIN_FRAME_MAX
from waybill.errors import BrokerUnavailable

PUBLISH = commands.Basic.Publish


@contextmanager
def limited(**limits: Any) -> Iterator[Broker]:
    """A broker with these limits."""
    with Broker(limits=Limits(**limits)) as broker:
        yield broker


def is_served(url: str) -> bool:
    """Whether another client gets its answers."""
    with Wire(url) as wire:
        wire.open_channel()
        return wire.call(1, commands.Queue.Declare(queue="still-there")).name == "Queue.DeclareOk"


# before login


def test_nothing_large_is_taken_before_login() -> None:
    with Broker() as broker, Wire(broker.url, login=False) as wire:
        wire.send_bytes(PROTOCOL_HEADER)
        wire.expect(commands.Connection.Start)
        wire.send_bytes(pack(">BHI", 1, 0, PRE_LOGIN_FRAME_MAX + 1))
        assert wire.expect(commands.Connection.Close).reply_code == 501
        assert is_served(broker.url)


def test_who_says_nothing_is_closed() -> None:
    with limited(handshake=0.05) as broker, Wire(broker.url, login=False) as wire:
        assert wire.read_to_end() == b""


def test_who_stops_in_the_handshake_is_closed() -> None:
    with limited(handshake=0.05) as broker, Wire(broker.url, login=False) as wire:
        wire.send_bytes(PROTOCOL_HEADER)
        wire.expect(commands.Connection.Start)
        with pytest.raises(Closed):
            wire.next()


def test_connections_are_bounded() -> None:
    with limited(connections=3) as broker, Wire(broker.url), Wire(broker.url):
        third = Wire(broker.url)
        with pytest.raises((Closed, OSError)):
            Wire(broker.url)
        third.drop()
        wait_until(lambda: len(broker.node.connections) == 2)
        assert is_served(broker.url)


# after it


def wait_until(is_so: Callable[[], object]) -> None:
    """Return when the broker's thread has come to it."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline, "the broker never came to it"
        time.sleep(0.001)  # another thread's turn; what is waited for is looked at, not guessed


def test_a_flood_of_channels_ends_at_the_agreed_number() -> None:
    with Broker() as broker, Wire(broker.url, channel_max=100) as wire:
        wire.send_bytes(b"".join(frame.marshal(commands.Channel.Open(), number) for number in range(1, 5000)))
        close = wire.wait_for("Connection.Close").method
        assert close.reply_code == 530
        assert close.reply_text.endswith("number of channels opened (100) has reached the negotiated channel_max (100)")
        assert is_served(broker.url)


def test_a_table_nested_too_deep_is_refused() -> None:
    data = b""
    for _ in range(10_000):
        data = b"\x01aF" + pack(">I", len(data)) + data
    payload = b"\x00\x32\x00\x0a\x00\x00\x01q\x00" + pack(">I", len(data)) + data
    with Broker() as broker, Wire(broker.url) as wire:
        wire.open_channel()
        wire.send_bytes(pack(">BHI", 1, 1, len(payload)) + payload + b"\xce")
        assert wire.wait_for("Connection.Close").method.reply_code == 501
        assert is_served(broker.url)


def test_a_message_above_the_largest_is_refused_and_not_kept() -> None:
    with Broker() as broker, Wire(broker.url) as wire:
        wire.open_channel()
        size = MAX_MESSAGE_BYTES + 1
        wire.publish(1, PUBLISH(routing_key="q"), bytes(size))
        close = wire.wait_for("Channel.Close").method
        assert close.reply_code == 406
        assert close.reply_text == (
            f"PRECONDITION_FAILED - message size {size} is larger than configured max size {MAX_MESSAGE_BYTES}"
        )


def test_a_client_that_vanishes_gives_its_messages_back() -> None:
    with Broker() as broker, Wire(broker.url) as other:
        other.open_channel()
        other.call(1, commands.Queue.Declare(queue="q"))
        other.publish(1, PUBLISH(routing_key="q"), b"m")
        wire = Wire(broker.url)
        wire.open_channel()
        wire.call(1, commands.Basic.Get(queue="q"))
        wire.drop()
        wait_until(lambda: len(broker.node.connections) == 1)
        got = other.call(1, commands.Basic.Get(queue="q"))
        assert (got.body, got.method.redelivered) == (b"m", True)


def test_a_slow_reader_is_sent_no_more_than_the_buffer_holds() -> None:
    with limited(write_buffer=100_000) as broker:
        slow, fast = Wire(broker.url), Wire(broker.url)
        slow.open_channel()
        fast.open_channel()
        slow.call(1, commands.Queue.Declare(queue="q"))
        slow.call(1, commands.Basic.Consume(queue="q", consumer_tag="c", no_ack=True))
        fast.call(1, commands.Confirm.Select())
        body, count = bytes(10_000), 3000
        for _ in range(count):
            fast.publish(1, PUBLISH(routing_key="q"), body)
        confirmed = 0
        while confirmed < count:
            confirmed = max(confirmed, fast.wait_for("Basic.Ack").method.delivery_tag)
        queue = broker.node.vhosts["/"].queues["q"]
        assert queue.ready.count > 1000  # the rest waits in the queue, where it is counted
        assert all(one.output.unsent < 1_000_000 for one in broker.node.connections)
        bodies = [slow.wait_for("Basic.Deliver").body for _ in range(count)]
        assert bodies == [body] * count
        slow.drop()
        fast.drop()


def test_publishers_are_blocked_above_the_mark_and_go_on_below_it() -> None:
    with limited(queue_bytes=10_000) as broker:
        publisher, consumer = Wire(broker.url), Wire(broker.url)
        for wire in (publisher, consumer):
            wire.open_channel()
        publisher.call(1, commands.Queue.Declare(queue="q"))
        for _ in range(12):
            publisher.publish(1, PUBLISH(routing_key="q"), bytes(1000))
        blocked = publisher.wait_for("Connection.Blocked").method
        assert blocked.reason == "low on memory"
        assert consumer.call(1, commands.Queue.Purge(queue="q")).method.message_count >= 8
        publisher.wait_for("Connection.Unblocked")
        assert publisher.call(1, commands.Basic.Qos()).name == "Basic.QosOk"
        publisher.drop()
        consumer.drop()


def test_a_fault_of_the_broker_closes_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with Broker() as broker, Wire(broker.url) as wire, Wire(broker.url) as other:
        wire.open_channel()
        other.open_channel()
        node_vhost = broker.node.vhosts["/"]
        monkeypatch.setattr(node_vhost, "declare_exchange", lambda _: 1 / 0)
        wire.send(1, commands.Exchange.Declare(exchange="x"))
        assert wire.wait_for("Connection.Close").method.reply_code == 541
        assert other.call(1, commands.Basic.Qos()).name == "Basic.QosOk"


def test_a_fault_in_a_timer_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def fault() -> None:
        raise KeyError("a fault")

    arguments: FieldTable = {"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "letters"}
    with Broker() as broker, Wire(broker.url) as wire:
        wire.open_channel()
        wire.call(1, commands.Queue.Declare(queue="letters"))
        wire.call(1, commands.Queue.Declare(queue="dying", arguments=arguments))
        wire.call(1, commands.Basic.Consume(queue="letters", no_ack=True))
        assert broker._loop is not None
        broker._loop.call_soon_threadsafe(broker.node.clock.wake_at, "fault", 0.0, fault)
        wire.publish(1, PUBLISH(routing_key="dying"), b"m")
        assert wire.wait_for("Basic.Deliver").body == b"m"
    assert "a timer has met a fault" in caplog.text


def test_a_port_in_use_is_said_in_one_line() -> None:
    with Broker() as broker, pytest.raises(BrokerUnavailable, match=f"cannot listen on 127.0.0.1:{broker.port}"):
        Broker(port=broker.port).__enter__()


def test_clients_are_told_when_the_broker_stops_and_the_port_is_free_at_once() -> None:
    broker = Broker()
    with broker:
        wire = Wire(broker.url)
        port = broker.port
        loop = broker._loop
        assert loop is not None
        stopping = asyncio.run_coroutine_threadsafe(broker.stop(), loop)
        close = wire.wait_for("Connection.Close").method
        assert (close.reply_code, close.reply_text) == (
            320,
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
        )
        wire.send(0, commands.Connection.CloseOk())
        stopping.result(5)
        wire.drop()
    with Broker(port=port):
        socket.create_connection(("127.0.0.1", port)).close()
