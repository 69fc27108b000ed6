"""Hostile and unlucky clients: every bound holds, and no connection disturbs another."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from struct import pack
from types import SimpleNamespace
from typing import cast

import pytest
from pamqp import commands, frame

from tests.support.wire import PROTOCOL_HEADER, Closed, Wire
from waybill.broker import Broker, Limits
from waybill.broker.connection import Connection
from waybill.broker.handshake import State
from waybill.broker.limits import MAX_MESSAGE_BYTES, PRE_LOGIN_FRAME_MAX
from waybill.broker.node import Node
from waybill.errors import BrokerUnavailable, InputError

PUBLISH = commands.Basic.Publish


@contextmanager
def limited(**limits: float) -> Iterator[Broker]:
    """A broker with these limits."""
    with Broker(limits=Limits(**limits)) as broker:  # type: ignore[arg-type]
        yield broker


def is_served(url: str) -> bool:
    """Whether another client gets its answers."""
    with Wire(url) as wire:
        wire.open_channel()
        return wire.call(1, commands.Queue.Declare(queue="still-there")).name == "Queue.DeclareOk"


def logged_in(node: Node, heartbeat: int = 0) -> Connection:
    """A connection past its handshake, without a socket."""
    connection = Connection(node)
    connection.receive(PROTOCOL_HEADER)
    for method in (
        commands.Connection.StartOk({"capabilities": {}}, "PLAIN", "\0guest\0guest", "en_US"),
        commands.Connection.TuneOk(2047, 131072, heartbeat),
        commands.Connection.Open(),
        commands.Channel.Open(),
    ):
        connection.receive(frame.marshal(method, 1 if isinstance(method, commands.Channel.Open) else 0))
    assert connection.state is State.RUNNING
    connection.take_out()
    return connection


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
    with limited(connections=3) as broker:
        wires = [Wire(broker.url) for _ in range(3)]
        with pytest.raises((Closed, OSError)):
            Wire(broker.url)
        wires.pop().drop()
        wait_until(lambda: len(broker.node.connections) == 2)
        assert is_served(broker.url)


# after it


def wait_until(is_so: object) -> None:
    """Return when the broker's thread has come to it."""
    deadline = time.monotonic() + 10
    while not is_so():  # type: ignore[operator]
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
        assert all(one.unsent < 1_000_000 for one in broker.node.connections)
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
        assert consumer.call(1, commands.Queue.Purge(queue="q")).method.message_count >= 10
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


# heartbeats, on a clock of the test's own


def test_a_silent_client_is_given_up_after_two_heartbeats() -> None:
    node = Node()
    connection = logged_in(node, heartbeat=10)
    sent = 0
    for node.now in range(1, 20):
        node.on_time()
        sent += connection.take_out().count(b"\x08\x00\x00\x00\x00\x00\x00\xce")
    assert not connection.is_finished
    assert sent >= 2
    node.now = 30
    node.on_time()
    assert connection.is_finished


def test_a_client_that_beats_is_kept() -> None:
    node = Node()
    connection = logged_in(node, heartbeat=10)
    for node.now in range(1, 200):
        if node.now % 8 == 0:
            connection.receive(b"\x08\x00\x00\x00\x00\x00\x00\xce")
        node.on_time()
    assert not connection.is_finished


def test_a_closed_connection_leaves_nothing_behind() -> None:
    node = Node()
    connection = logged_in(node, heartbeat=10)
    connection.receive(frame.marshal(commands.Queue.Declare(queue="mine", exclusive=True), 1))
    connection.receive(frame.marshal(commands.Basic.Consume(queue="mine"), 1))
    connection.lost()
    assert node.next_time() is None
    assert not node.connections
    assert not node.vhosts["/"].queues
    node.take_dirty()
    gc.collect()
    assert gc.get_referrers(connection) == [] or all(
        not isinstance(one, (dict, list, set)) or one is globals() for one in gc.get_referrers(connection)
    )


def test_a_headers_table_that_cannot_be_read_harms_no_other() -> None:
    node = Node()
    guilty, other = logged_in(node), logged_in(node)
    letters = {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "letters"}
    for method in (
        commands.Queue.Declare(queue="letters"),
        commands.Queue.Declare(queue="dying", arguments=letters),
        commands.Queue.Declare(queue="quorum", durable=True, arguments={"x-queue-type": "quorum"}),
        commands.Basic.Consume(queue="letters"),
        commands.Basic.Consume(queue="quorum"),
    ):
        other.receive(frame.marshal(method, 1))
    table = b"\x01a\x00"  # a field of a type that AMQP does not have
    content = pack(">HHQHI", 60, 0, 1, 0x2000, len(table)) + table
    for queue in ("dying", "quorum"):
        publish = frame.marshal(PUBLISH(routing_key=queue), 1)
        guilty.receive(publish + pack(">BHI", 2, 1, len(content)) + content + b"\xce\x03\0\1\0\0\0\1m\xce")
    assert guilty.state is State.RUNNING
    guilty.lost()
    node.now = 1.0
    node.on_time()
    assert b"x-death" in other.take_out()
    other.receive(frame.marshal(commands.Basic.Nack(0, multiple=True), 1))
    assert b"x-acquired-count" in other.take_out()
    assert other.state is State.RUNNING
    assert not other.channels[1].is_closing


def test_a_fault_in_a_timer_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    arguments = {"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "letters"}
    with Broker() as broker, Wire(broker.url) as wire:
        wire.open_channel()
        wire.call(1, commands.Queue.Declare(queue="letters"))
        wire.call(1, commands.Queue.Declare(queue="dying", arguments=arguments))
        wire.call(1, commands.Basic.Consume(queue="letters", no_ack=True))
        assert broker._loop is not None
        broker._loop.call_soon_threadsafe(broker.node.wake_at, "fault", 0.0, {}.popitem)
        wire.publish(1, PUBLISH(routing_key="dying"), b"m")
        assert wire.wait_for("Basic.Deliver").body == b"m"
    assert "a timer has met a fault" in caplog.text


def test_queues_that_come_and_go_leave_no_timers() -> None:
    node = Node()
    connection = logged_in(node)
    for number in range(2000):
        declare = commands.Queue.Declare(queue=f"q{number}", arguments={"x-expires": 86_400_000})
        connection.receive(frame.marshal(declare, 1) + frame.marshal(commands.Queue.Delete(queue=f"q{number}"), 1))
    assert len(node._timers) < 200
    assert not node._wakes


def test_many_acknowledged_at_once() -> None:
    node = Node()
    connection = logged_in(node)
    connection.receive(frame.marshal(commands.Queue.Declare(queue="q"), 1))
    connection.receive(frame.marshal(commands.Basic.Consume(queue="q"), 1))
    one = Wire.content_bytes(cast(Wire, SimpleNamespace(frame_max=131072)), 1, PUBLISH(routing_key="q"), b"m")
    connection.receive(one * 500)
    deliveries = connection.channels[1].deliveries
    connection.receive(frame.marshal(commands.Basic.Ack(120, True), 1))
    assert list(deliveries.unacked) == list(range(121, 501))
    connection.receive(frame.marshal(commands.Basic.Ack(0, True), 1))
    assert not deliveries.unacked
    assert node.queue_bytes == 0


# the address


def test_guest_stays_on_this_machine() -> None:
    with pytest.raises(InputError, match="guest is for this machine only"):
        Broker("0.0.0.0")
    Broker("0.0.0.0", users={"someone": "else"})


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
    with Broker(port=port):
        socket.create_connection(("127.0.0.1", port)).close()


def test_the_password_stands_in_no_text() -> None:
    broker = Broker(users={"me": "s3cret"})
    assert "s3cret" not in f"{broker!r} {broker.address}"


def test_the_documents_name_every_limit_and_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "embedded-broker.md").read_text()
    for field in fields(Limits):
        assert f"`{field.name}`" in text
    for shown in ("131,072 bytes", "2,047", "1,000", "512 MiB", "64 deep"):
        assert shown in text
