"""Faults on purpose: each happens at the frame that it names, a hundred times of a hundred, and clients see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import pika
import pika.exceptions
import pytest
from kombu import Connection
from pamqp import commands
from pamqp.frame import marshal

from tests.support.wire import Closed, Wire
from waybill.broker import Broker, Faults
from waybill.broker.faults import Fault
from waybill.errors import InputError

TIMES = 100
SECONDS_EACH = 0.05
SILENCE_SECONDS = 0.005
"""How long it is listened where nothing is to come: nothing comes later either."""

PUBLISH = commands.Basic.Publish
CONFIRM_SELECT = commands.Confirm.Select
DECLARE = commands.Queue.Declare
QUEUE = "letters"

# What the client of these tests sends behind the handshake's three frames, all of it in one write, and what it hears.
# Client's frame → the answer to it; a publication is three frames: 7 to 9, 10 to 12, 13 to 15.
ANSWERS = {
    4: "Channel.OpenOk",
    5: "Confirm.SelectOk",
    6: "Queue.DeclareOk 0",
    9: "Basic.Ack 1",
    12: "Basic.Ack 2",
    15: "Basic.Ack 3",
    16: "Queue.DeclareOk 3",
}
PUBLISHED = (9, 12, 15)
SETUP = ("Channel.OpenOk", "Confirm.SelectOk", "Queue.DeclareOk 0")


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as one:
        yield one


@dataclass(frozen=True)
class Outcome:
    """What the client heard, and how many messages are in the queue."""

    heard: tuple[str, ...]
    copies: int


def outcome(broker: Broker, faults: Faults, expected: Outcome) -> Outcome:
    """A client's whole session on a connection with these faults."""
    with Wire(broker.url) as other:
        other.open_channel()
        other.call(1, commands.Queue.Delete(queue=QUEUE))
        broker.injected.clear()
        broker.inject(faults)
        with Wire(broker.url) as wire:
            broker.inject(None)
            wire.send_bytes(session(wire))
            heard = tuple(hear(wire, event) for event in expected.heard)
        return Outcome(heard, messages(other))


def session(wire: Wire) -> bytes:
    """All that the client sends behind the handshake."""
    setup = (commands.Channel.Open(), CONFIRM_SELECT(), DECLARE(queue=QUEUE))
    letter = wire.content_bytes(1, PUBLISH(routing_key=QUEUE), b"hello")
    return b"".join([*(marshal(one, 1) for one in setup), letter * 3, marshal(DECLARE(queue=QUEUE), 1)])


def hear(wire: Wire, expected: str) -> str:
    """The next event, in short."""
    try:
        arrived = wire.next(SILENCE_SECONDS if expected == "silence" else 10)
    except TimeoutError:
        return "silence"
    except Closed as closed:
        end = "reset" if isinstance(closed.__cause__, ConnectionResetError) else "end"
        return f"{end} after {len(wire.buffer)} bytes" if wire.buffer else end
    method = arrived.method
    for field in ("delivery_tag", "message_count", "reply_code"):
        if hasattr(method, field):
            return f"{arrived.name} {getattr(method, field)}"
    return arrived.name


def messages(wire: Wire) -> int:
    """How many are in the queue; 0 where it isn't there."""
    answer = wire.call(1, DECLARE(queue=QUEUE, passive=True)).method
    return int(answer.message_count or 0) if isinstance(answer, commands.Queue.DeclareOk) else 0


def heard_until(frame: int) -> tuple[str, ...]:
    """The answers to the client's frames before this one."""
    return tuple(text for number, text in ANSWERS.items() if number < frame)


def taken_until(frame: int) -> int:
    """How many publications are whole with this frame of the client."""
    return sum(number <= frame for number in PUBLISHED)


def answered_frame(number: int) -> int:
    """Which frame of the client the nth frame of the broker answers."""
    return list(ANSWERS)[number - 4]


def cuts() -> Iterator[tuple[Fault, Outcome]]:
    """Every place where the session can be cut, on both sides."""
    for frame in range(4, 17):
        yield Faults.Cut("client", frame), Outcome((*heard_until(frame), "end"), taken_until(frame))
        # Within a frame: it was never there.
        cut = Outcome((*heard_until(frame), "end"), taken_until(frame - 1))
        yield Faults.Cut("client", frame, byte=0), cut
        yield Faults.Cut("client", frame, byte=9), cut
    for number in range(4, 11):
        frame = answered_frame(number)
        heard, copies = heard_until(frame), taken_until(frame)
        yield Faults.Cut("broker", number), Outcome((*heard, ANSWERS[frame], "end"), copies)
        yield Faults.Cut("broker", number, byte=0), Outcome((*heard, "end"), copies)
        yield Faults.Cut("broker", number, byte=9), Outcome((*heard, "end after 9 bytes"), copies)


ALL = (*SETUP, "Basic.Ack 1", "Basic.Ack 2", "Basic.Ack 3", "Queue.DeclareOk 3")

FAULTS: list[tuple[Fault, Outcome]] = [
    # a method's own count, content and all
    (Faults.Cut("client", 2, of="basic.publish"), Outcome((*SETUP, "Basic.Ack 1", "end"), 2)),
    (Faults.Cut("client", 2, byte=20, of="basic.publish"), Outcome((*SETUP, "Basic.Ack 1", "end"), 1)),
    (Faults.Cut("client", 2, byte=50, of="basic.publish"), Outcome((*SETUP, "Basic.Ack 1", "end"), 1)),
    (Faults.Cut("broker", 2, byte=0, of="basic.ack"), Outcome((*SETUP, "Basic.Ack 1", "end"), 2)),
    # half-open
    (Faults.HalfOpen("client", 9), Outcome((*SETUP, "silence"), 1)),
    (Faults.HalfOpen("client", 9, byte=1), Outcome((*SETUP, "silence"), 0)),
    (Faults.HalfOpen("broker", 7), Outcome((*SETUP, "Basic.Ack 1", "silence"), 1)),
    # confirms
    (Faults.Withhold(2), Outcome((*SETUP, "Basic.Ack 1", "Basic.Ack 3", "Queue.DeclareOk 3"), 3)),
    (Faults.Withhold(2, None), Outcome((*SETUP, "Basic.Ack 1", "Queue.DeclareOk 3"), 3)),
    (
        Faults.Delay(1, seconds=0.01),
        Outcome((*SETUP, "Basic.Ack 2", "Basic.Ack 3", "Queue.DeclareOk 3", "Basic.Ack 1"), 3),
    ),
    (
        Faults.Delay(2, None, seconds=0.01),
        Outcome((*SETUP, "Basic.Ack 1", "Queue.DeclareOk 3", "Basic.Ack 2", "Basic.Ack 3"), 3),
    ),
    (Faults.Nack(2), Outcome((*SETUP, "Basic.Ack 1", "Basic.Nack 2", "Basic.Ack 3", "Queue.DeclareOk 2"), 2)),
    (
        Faults.Nack(2, is_kept=True),
        Outcome((*SETUP, "Basic.Ack 1", "Basic.Nack 2", "Basic.Ack 3", "Queue.DeclareOk 3"), 3),
    ),
    # refusals
    (Faults.Refuse(406, nth=2), Outcome((*SETUP, "Basic.Ack 1", "Channel.Close 406", "silence"), 1)),
    (Faults.Refuse(541, nth=2), Outcome((*SETUP, "Basic.Ack 1", "Connection.Close 541", "silence"), 1)),
    (
        Faults.Refuse(406, nth=2, closes="connection"),
        Outcome((*SETUP, "Basic.Ack 1", "Connection.Close 406", "silence"), 1),
    ),
    (Faults.Refuse(403, "queue.declare"), Outcome((*SETUP[:2], "Channel.Close 403", "silence"), 0)),
    (Faults.Refuse(404, "channel.open"), Outcome(("Channel.Close 404", "silence"), 0)),
    # blocks
    (Faults.Block(1), Outcome((*SETUP, "Basic.Ack 1", "Connection.Blocked", "silence"), 1)),
    (
        Faults.Block(2, seconds=0.01),
        Outcome((*ALL[:5], "Connection.Blocked", "Connection.Unblocked", *ALL[5:]), 3),
    ),
    # slow readers
    (Faults.SlowReader(100_000), Outcome(ALL, 3)),
    (Faults.SlowReader(100_000, "client"), Outcome(ALL, 3)),
]


@pytest.mark.parametrize(("fault", "expected"), list(cuts()), ids=str)
def test_a_cut_is_at_the_very_frame(broker: Broker, fault: Fault, expected: Outcome) -> None:
    assert outcome(broker, Faults(fault), expected) == expected
    assert [one.fault for one in broker.injected] == [fault]
    assert isinstance(fault, Faults.Cut)
    assert broker.injected[0].frame == fault.frame


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=str)
def test_it_happens_a_hundred_times_of_a_hundred(broker: Broker, fault: Fault, expected: Outcome) -> None:
    began = time.perf_counter()
    seen = {outcome(broker, Faults(fault), expected) for _ in range(TIMES)}
    assert seen == {expected}
    assert (time.perf_counter() - began) / TIMES < SECONDS_EACH


def test_a_reset_is_one(broker: Broker) -> None:
    # What the client hadn't read by then may be lost, so only the end is the same every time.
    for _ in range(TIMES):
        broker.inject(Faults(Faults.Cut("client", 4, reset=True)))
        with Wire(broker.url) as wire:
            wire.send(1, commands.Channel.Open())
            assert hear(wire, "reset") == "reset"
    broker.inject(None)


@pytest.mark.parametrize("frame", [1, 2, 3])
@pytest.mark.parametrize("side", ["client", "broker"])
def test_the_handshake_can_be_cut(broker: Broker, side: Literal["client", "broker"], frame: int) -> None:
    broker.inject(Faults(Faults.Cut(side, frame, byte=0)))
    with pytest.raises(Closed):
        Wire(broker.url)
    broker.inject(None)


def test_a_login_can_be_refused_with_any_code(broker: Broker) -> None:
    broker.inject(Faults(Faults.Refuse(530, "connection.open", text="too many connections")))
    with pytest.raises(AssertionError, match="reply_code=530, reply_text='NOT_ALLOWED - too many connections'"):
        Wire(broker.url)
    broker.inject(None)


def test_a_refused_channel_is_closed_on_both_sides(broker: Broker) -> None:
    broker.inject(Faults(Faults.Refuse(405, "queue.purge")))
    with Wire(broker.url) as wire:
        broker.inject(None)
        wire.open_channel()
        wire.call(1, DECLARE(queue="held", auto_delete=True))
        wire.call(1, commands.Basic.Consume(queue="held"))
        refused = wire.call(1, commands.Queue.Purge(queue="held")).method
        assert (refused.reply_code, refused.class_id, refused.method_id) == (405, 50, 30)
        wire.send(1, commands.Channel.CloseOk())
        wire.open_channel()
        # Its consumer left with the channel, and the queue with the consumer.
        assert wire.call(1, DECLARE(queue="held", passive=True)).method.reply_code == 404


def test_a_refused_connection_ends_with_the_clients_answer(broker: Broker) -> None:
    broker.inject(Faults(Faults.Refuse(541, "queue.declare")))
    with Wire(broker.url) as wire:
        broker.inject(None)
        wire.open_channel()
        assert wire.call(1, DECLARE(queue="never")).method.reply_code == 541
        wire.send(0, commands.Connection.CloseOk())
        assert hear(wire, "end") == "end"


def test_a_half_open_client_is_given_up_by_its_heartbeats() -> None:
    with Broker(faults=Faults(Faults.HalfOpen("client", 6))) as broker, Wire(broker.url, heartbeat=1) as wire:
        wire.send_bytes(
            b"".join(
                [
                    marshal(commands.Channel.Open(), 1),
                    marshal(DECLARE(queue="own", exclusive=True), 1),
                    marshal(DECLARE(queue="own", exclusive=True), 1),
                ]
            )
        )
        assert [hear(wire, event) for event in ("open", "declare", "silence")][-1] == "silence"
        with Wire(broker.url) as other:
            other.open_channel()
            until = time.monotonic() + 10
            while other.call(1, DECLARE(queue="own", passive=True)).method.reply_code == 405:  # locked by its owner
                assert time.monotonic() < until
                other.send(1, commands.Channel.CloseOk())
                other.open_channel()
        assert hear(wire, "silence") == "silence"


def test_a_slow_reader_takes_its_time() -> None:
    body = bytes(20_000)
    for side in ("broker", "client"):
        with Broker(faults=Faults(Faults.SlowReader(400_000, side))) as broker, Wire(broker.url) as wire:
            wire.open_channel()
            wire.call(1, DECLARE(queue=QUEUE))
            began = time.perf_counter()
            wire.publish(1, PUBLISH(routing_key=QUEUE), body)
            got = wire.call(1, commands.Basic.Get(queue=QUEUE, no_ack=True))
            assert got.body == body
            assert time.perf_counter() - began > 0.9 * len(body) / 400_000


def test_a_writer_waits_for_a_slow_reader() -> None:
    """Once the operating system's buffers are full, which is all that a slow broker changes for its client."""
    with Broker(faults=Faults(Faults.SlowReader(20_000))) as broker, Wire(broker.url) as wire:
        wire.open_channel()
        wire.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.publish(1, PUBLISH(routing_key=QUEUE), bytes(15_000_000))


def test_which_connection(broker: Broker) -> None:
    for connection, expected in ((1, [1]), (3, [3]), (None, [1, 2, 3])):
        broker.injected.clear()
        broker.inject(Faults(Faults.Cut("client", 4, connection=connection)))
        for _ in range(3):
            with Wire(broker.url) as wire:
                wire.send(1, commands.Channel.Open())
                if len(broker.injected) < len(expected):
                    hear(wire, "end")
        assert [one.connection for one in broker.injected] == expected
    broker.inject(None)


def test_the_same_seed_draws_the_same() -> None:
    faults = [Faults(Faults.Cut("client", range(4, 40), range(9), connection=None), seed=seed) for seed in range(50)]
    drawn = [one.of_connection(1) for one in faults]
    assert drawn == [one.of_connection(1) for one in faults]
    assert len(set(drawn)) > 40
    assert drawn != [one.of_connection(2) for one in faults]
    more = Faults(*faults[0].faults, Faults.Block(), seed=0)
    assert more.of_connection(1)[0] == drawn[0][0]


def test_a_drawn_cut_happens_where_it_was_drawn(broker: Broker) -> None:
    for seed in range(20):
        faults = Faults(Faults.Cut("client", range(4, 17)), seed=seed)
        (cut,) = faults.of_connection(1)
        assert isinstance(cut, Faults.Cut)
        assert isinstance(cut.frame, int)
        expected = Outcome((*heard_until(cut.frame), "end"), taken_until(cut.frame))
        assert outcome(broker, faults, expected) == expected


nobody: Any = "nobody"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Faults.Cut(nobody), "side 'nobody': expected 'client' or 'broker'"),
        (lambda: Faults.Cut("client", 0), "frame 0: expected 1 or more"),
        (lambda: Faults.Cut("client", range(3, 3)), "frame range(3, 3): the range is empty"),
        (lambda: Faults.Cut("client", 1, -1), "byte -1: expected 0 or more"),
        (lambda: Faults.Cut("client", of="basic.pubish"), "no method 'basic.pubish' in AMQP 0-9-1; did you mean"),
        (lambda: Faults.HalfOpen("client", connection=0), "connection 0: expected 1 or more, or None for all"),
        (lambda: Faults.SlowReader(0), "bytes_per_second 0: expected 1 or more"),
        (lambda: Faults.Nack(0), "first 0, count 1: expected 1 or more"),
        (lambda: Faults.Refuse(4), "code 4: expected three digits"),
        (lambda: Faults.Block(0), "after 0: expected 1 or more"),
    ],
)
def test_what_cannot_happen_is_refused(make: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(says)


def test_no_faults_no_line(broker: Broker) -> None:
    """A connection without faults has the socket that it has in a broker without any."""
    broker.inject(Faults(Faults.Block(connection=2)))
    with Wire(broker.url), Wire(broker.url):
        kinds = sorted(type(one).__name__ for one in broker._sockets.values())
    broker.inject(None)
    assert kinds == ["_FaultySocket", "_Socket"]


# clients


def test_kombu_sends_twice_what_was_confirmed_into_the_void() -> None:
    with Broker(faults=Faults(Faults.Cut("broker", 1, byte=0, of="basic.ack"))) as broker:
        with Connection(broker.url, transport_options={"confirm_publish": True}) as connection:
            connection.SimpleQueue(QUEUE).producer.publish("hello", retry=True)
        with Wire(broker.url) as wire:
            wire.open_channel()
            assert messages(wire) == 2


def test_kombu_raises_without_a_retry() -> None:
    options = {"confirm_publish": True}
    cut = Faults.Cut("client", 1, of="basic.publish")
    with Broker(faults=Faults(cut)) as broker, Connection(broker.url, transport_options=options) as connection:
        producer = connection.SimpleQueue(QUEUE).producer
        with pytest.raises(OSError, match="Server unexpectedly closed connection"):
            producer.publish("hello", retry=False)


def test_pika_sees_nacks_refusals_and_blocks() -> None:
    with Broker() as broker:
        parameters = pika.URLParameters(broker.url)
        parameters.blocked_connection_timeout = 0.05
        for fault, error in (
            (Faults.Nack(), pika.exceptions.NackError),
            (Faults.Refuse(406), pika.exceptions.ChannelClosedByBroker),
            (Faults.Refuse(320), pika.exceptions.ConnectionClosedByBroker),
            (Faults.Cut("client", 1, of="basic.publish"), pika.exceptions.StreamLostError),
        ):
            broker.inject(Faults(fault))
            connection = pika.BlockingConnection(parameters)
            channel = connection.channel()
            channel.queue_declare(QUEUE)
            channel.confirm_delivery()
            with pytest.raises(error):
                channel.basic_publish("", QUEUE, b"hello")
        broker.inject(Faults(Faults.Block(), Faults.Withhold()))
        channel = pika.BlockingConnection(parameters).channel()
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.ConnectionBlockedTimeout):
            channel.basic_publish("", QUEUE, b"hello")


# restarts


def declared(wire: Wire, queue: str) -> int | None:
    """How many messages a queue holds, None where there is no such queue."""
    answer = wire.call(1, DECLARE(queue=queue, passive=True)).method
    if isinstance(answer, commands.Queue.DeclareOk):
        return int(answer.message_count or 0)
    wire.send(1, commands.Channel.CloseOk())
    wire.open_channel()
    return None


@pytest.mark.parametrize("is_crash", [False, True])
@pytest.mark.parametrize(
    ("keep", "left"), [("durable", {"durable": 1, "quorum": 2, "transient": None}), ("nothing", {"durable": None})]
)
def test_what_a_restart_leaves(
    keep: Literal["durable", "nothing"], left: dict[str, int | None], is_crash: bool
) -> None:
    with Broker() as broker:
        port, seen = broker.port, []
        for _ in range(20):
            with Wire(broker.url) as wire:
                wire.open_channel()
                for queue in ("durable", "quorum", "transient"):
                    wire.call(1, commands.Queue.Delete(queue=queue))
                wire.call(1, DECLARE(queue="durable", durable=True))
                wire.call(1, DECLARE(queue="quorum", durable=True, arguments={"x-queue-type": "quorum"}))
                wire.call(1, DECLARE(queue="transient"))
                wire.call(1, CONFIRM_SELECT())
                for queue in ("durable", "quorum", "transient"):
                    for mode in (1, 2):
                        wire.publish(1, PUBLISH(routing_key=queue), b"hello", delivery_mode=mode)
                        wire.wait_for("Basic.Ack")
                began = time.perf_counter()
                broker.restart(keep=keep, is_crash=is_crash)
                assert time.perf_counter() - began < 1
                end = hear(wire, "end")
                assert end == ("end" if is_crash else "Connection.Close 320")
            with Wire(broker.url) as wire:
                wire.open_channel()
                seen.append({queue: declared(wire, queue) for queue in left})
        assert seen == [left] * 20
        assert broker.port == port


def test_bindings_between_durable_ones_survive() -> None:
    with Broker() as broker:
        with Wire(broker.url) as wire:
            wire.open_channel()
            wire.call(1, DECLARE(queue="q", durable=True))
            for exchange, is_durable in (("kept", True), ("gone", False)):
                wire.call(1, commands.Exchange.Declare(exchange=exchange, durable=is_durable))
                wire.call(1, commands.Queue.Bind(queue="q", exchange=exchange, routing_key="k"))
            wire.publish(1, PUBLISH(routing_key="q"), b"unsettled", delivery_mode=2)
            wire.call(1, commands.Basic.Get(queue="q"))
        broker.restart(is_crash=True)
        with Wire(broker.url) as wire:
            wire.open_channel()
            wire.publish(1, PUBLISH(exchange="kept", routing_key="k"), b"new")
            first = wire.call(1, commands.Basic.Get(queue="q"))
            assert (first.body, first.method.redelivered) == (b"unsettled", True)
            assert wire.call(1, commands.Basic.Get(queue="q")).body == b"new"
            assert wire.call(1, commands.Exchange.Declare(exchange="gone", passive=True)).method.reply_code == 404


def test_a_client_that_comes_during_a_restart_is_served_or_told() -> None:
    """It is refused while the broker is down, and never left without an answer."""
    with Broker() as broker, ThreadPoolExecutor(1) as pool:
        for down in (0.0, 0.02):
            refused = 0
            for _ in range(10):
                restart = pool.submit(broker.restart, down=down)
                while not restart.done():
                    try:
                        Wire(broker.url).drop()
                    except ConnectionRefusedError:
                        refused += 1
                    except (Closed, AssertionError, ConnectionError):  # in the handshake: the end, or a close with 320
                        pass
                restart.result()
            assert refused or not down
            Wire(broker.url).drop()


async def _restart_on_the_loop() -> int:
    async with Broker() as broker:
        port = broker.port
        await broker.restart_on_loop(keep="nothing")
        assert broker.port == port
        return port


def test_a_broker_on_the_callers_loop_restarts() -> None:
    assert asyncio.run(_restart_on_the_loop())
