"""What a client may ask of the embedded broker, and what is left behind: connections without sockets."""

from __future__ import annotations

import gc
from dataclasses import fields
from pathlib import Path
from struct import pack
from types import SimpleNamespace
from typing import cast

import pytest
from pamqp import commands, frame
from pamqp.common import FieldTable

from tests.support.wire import PROTOCOL_HEADER, Wire
from waybill.broker import Broker, Limits
from waybill.broker.connection import Connection, State
from waybill.broker.node import Node
from waybill.errors import InputError

PUBLISH = commands.Basic.Publish


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


# heartbeats, on a clock of the test's own


def test_a_silent_client_is_given_up_after_two_heartbeats() -> None:
    node = Node()
    connection = logged_in(node, heartbeat=10)
    sent = 0
    for node.clock.now in range(1, 20):
        node.clock.on_time()
        sent += connection.take_out().count(b"\x08\x00\x00\x00\x00\x00\x00\xce")
    assert not connection.is_finished
    assert sent >= 2
    node.clock.now = 30
    node.clock.on_time()
    assert connection.is_finished


def test_a_client_that_beats_is_kept() -> None:
    node = Node()
    connection = logged_in(node, heartbeat=10)
    for node.clock.now in range(1, 200):
        if node.clock.now % 8 == 0:
            connection.receive(b"\x08\x00\x00\x00\x00\x00\x00\xce")
        node.clock.on_time()
    assert not connection.is_finished


def test_a_closed_connection_leaves_nothing_behind() -> None:
    node = Node()
    connection = logged_in(node, heartbeat=10)
    connection.receive(frame.marshal(commands.Queue.Declare(queue="mine", exclusive=True), 1))
    connection.receive(frame.marshal(commands.Basic.Consume(queue="mine"), 1))
    connection.lost()
    assert node.clock.next_time() is None
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
    letters: FieldTable = {"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "letters"}
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
    node.clock.now = 1.0
    node.clock.on_time()
    assert b"x-death" in other.take_out()
    other.receive(frame.marshal(commands.Basic.Nack(0, multiple=True), 1))
    assert b"x-acquired-count" in other.take_out()
    assert other.state is State.RUNNING
    assert not other.channels[1].is_closing


def test_queues_that_come_and_go_leave_no_timers() -> None:
    node = Node()
    connection = logged_in(node)
    for number in range(2000):
        declare = commands.Queue.Declare(queue=f"q{number}", arguments={"x-expires": 86_400_000})
        connection.receive(frame.marshal(declare, 1) + frame.marshal(commands.Queue.Delete(queue=f"q{number}"), 1))
    assert len(node.clock._timers) < 200
    assert not node.clock._wakes


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
    assert node.memory.held == 0


# the address


def test_guest_stays_on_this_machine() -> None:
    with pytest.raises(InputError, match="guest is for this machine only"):
        Broker("0.0.0.0")
    Broker("0.0.0.0", users={"someone": "else"})


def test_the_password_stands_in_no_text() -> None:
    broker = Broker(users={"me": "s3cret"})
    assert "s3cret" not in f"{broker!r} {broker.address}"


def test_the_documents_name_every_limit_and_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "explanation" / "embedded-broker.md").read_text()
    for field in fields(Limits):
        assert f"`{field.name}`" in text
    for shown in ("131,072 bytes", "2,047", "1,000", "512 MiB", "64 deep"):
        assert shown in text
