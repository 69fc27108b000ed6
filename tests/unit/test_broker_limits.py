"""What a client may ask of the embedded broker, and what is left behind: connections without sockets."""

from __future__ import annotations

import gc
from collections.abc import Callable
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
from waybill.broker.memory import ENTRY
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


# one limit for all that is kept, and one turn for each


def content(body: bytes, routing_key: str = "", exchange: str = "") -> bytes:
    """A publication on channel 1."""
    publish = PUBLISH(exchange=exchange, routing_key=routing_key)
    return Wire.content_bytes(cast(Wire, SimpleNamespace(frame_max=131072)), 1, publish, body)


def within_a_body(client: Connection) -> None:
    """Ten bodies of which one byte is missing."""
    for number in range(2, 12):
        client.receive(frame.marshal(commands.Channel.Open(), number))
        header = pack(">HHQH", 60, 0, 1_001, 0)
        client.receive(
            frame.marshal(PUBLISH(routing_key="q"), number)
            + pack(">BHI", 2, number, len(header)) + header + b"\xce"
            + pack(">BHI", 3, number, 1_000) + bytes(1_000) + b"\xce"
        )  # fmt: skip


def within_a_transaction(client: Connection) -> None:
    """Publications that wait for a commit."""
    client.receive(frame.marshal(commands.Tx.Select(), 1))
    client.receive(content(bytes(1_000), routing_key="q") * 10)


def within_a_history(client: Connection) -> None:
    """What an exchange remembers, without a queue."""
    history: FieldTable = {"x-recent-history-length": 1_000_000}
    declare = commands.Exchange.Declare(exchange="h", exchange_type="x-recent-history", arguments=history)
    client.receive(frame.marshal(declare, 1))
    client.receive(content(bytes(1_000), exchange="h") * 10)


def in_small_messages(client: Connection) -> None:
    """Messages of one byte."""
    client.receive(frame.marshal(commands.Queue.Declare(queue="q"), 1))
    client.receive(content(b"m", routing_key="q") * 100)


def in_answers(client: Connection) -> None:
    """Answers that the client doesn't read."""
    client.receive(content(b"m", routing_key="nowhere"))
    client.sent(20_000)


@pytest.mark.parametrize("fill", [within_a_body, within_a_transaction, within_a_history, in_small_messages, in_answers])
def test_all_that_is_kept_counts_against_one_limit(fill: Callable[[Connection], None]) -> None:
    node = Node(limits=Limits(queue_bytes=9_000))
    client, other = logged_in(node), logged_in(node)
    fill(client)
    assert node.memory.is_alarmed
    client.receive(content(b"m", routing_key="nowhere"))
    assert client.is_blocked
    other.receive(content(b"m", routing_key="nowhere"))
    assert other.is_blocked
    client.lost()
    for method in (commands.Queue.Delete(queue="q"), commands.Exchange.Delete(exchange="h")):
        other.receive(frame.marshal(method, 1))
    assert node.memory.held == 0
    node.check_alarm()
    assert not other.is_blocked


@pytest.mark.parametrize("end", [commands.Tx.Commit(), commands.Tx.Rollback(), commands.Channel.Close(0, "", 0, 0)])
def test_what_a_transaction_kept_is_free_after_it(end: commands.Tx.Commit) -> None:
    node = Node()
    client = logged_in(node)
    within_a_transaction(client)
    assert node.memory.held
    client.receive(frame.marshal(end, 1))
    assert node.memory.held == 0


def test_a_history_keeps_no_more_than_its_length() -> None:
    node = Node()
    client = logged_in(node)
    history: FieldTable = {"x-recent-history-length": 2}
    declare = commands.Exchange.Declare(exchange="h", exchange_type="x-recent-history", arguments=history)
    client.receive(frame.marshal(declare, 1))
    for size in (1, 10, 100, 1_000):
        client.receive(content(bytes(size), exchange="h"))
    assert node.memory.held == 100 + 1_000 + 2 * ENTRY


def test_a_burst_to_many_queues_is_cut_into_turns() -> None:
    """Another client is answered after one of them, and nothing is lost or out of order."""
    node = Node()
    client, other = logged_in(node), logged_in(node)
    for number in range(1_000):
        client.receive(frame.marshal(commands.Queue.Declare(queue=f"q{number}", exclusive=True), 1))
        client.receive(frame.marshal(commands.Queue.Bind(queue=f"q{number}", exchange="amq.fanout"), 1))
    client.take_out()
    publications = [content(str(number).encode(), exchange="amq.fanout") for number in range(100)]
    client.receive(b"".join(publications) + frame.marshal(commands.Basic.Get(queue="q7"), 1))
    turns = 1
    assert node.vhosts["/"].queues["q7"].ready.count <= 11
    while client.has_more:
        other.receive(frame.marshal(commands.Queue.Declare(queue="mine"), 1))
        assert other.take_out()
        client.go_on()
        turns += 1
    assert turns >= 9
    assert b"\x00\x00\x00c" in client.take_out()  # get-ok: 99 more are there
    found = [entry.message.body for entry in node.vhosts["/"].queues["q999"].ready.clear()]
    assert found == [str(number).encode() for number in range(100)]


def test_a_client_that_goes_within_a_burst_leaves_the_rest() -> None:
    node = Node()
    client = logged_in(node)
    for number in range(100):
        client.receive(frame.marshal(commands.Queue.Declare(queue=f"q{number}", exclusive=True), 1))
        client.receive(frame.marshal(commands.Queue.Bind(queue=f"q{number}", exchange="amq.fanout"), 1))
    client.receive(content(b"m", exchange="amq.fanout") * 1_000)
    assert client.has_more
    client.lost()
    assert not client.has_more
    assert node.memory.held == 0
