"""Frames that nobody should send, by the million: the broker must answer or close, and serve the next client.

    python -m tools.fuzz --frames 1000000 --seed 1

Bytes go straight into a `Connection`, without sockets. A run starts from what clients really send and breaks some
of it, in some conversations nearly nothing and in others most: bits turned, frames cut, doubled, sizes and channels
changed, bytes put in. After each conversation the node must have forgotten the client, a well-behaved one must be
served, and nothing but a `ProtocolRefusal` may have been raised.
"""

from __future__ import annotations

import argparse
import random
import time
from struct import pack

from pamqp import body, commands, frame, header
from pamqp.common import FieldTable

from tests.support.wire import PROTOCOL_HEADER
from waybill.broker.connection import Connection, State
from waybill.broker.frames import HEARTBEAT_FRAME
from waybill.broker.methods import answer
from waybill.broker.node import Node

FRAMES_OF_A_TALK = 100
"""After so many the connection is given up and another begun."""

BROKEN = (0.02, 0.1, 0.6)
"""Shares of broken frames in a conversation: the first go deep before they end, the last end at once."""

Utterance = tuple[bytes, ...]
"""Frames that a client sends in one go: a method, or a method with its content."""


def _content(queue: str, size: int) -> Utterance:
    headers: FieldTable = {"a": 1, "n": {"x": [1, "y"]}, "CC": ["q"]}
    properties = commands.Basic.Properties(headers=headers, priority=1, expiration="3")
    frames: list[commands.Basic.Publish | header.ContentHeader | body.ContentBody] = [
        commands.Basic.Publish(exchange="" if size else "amq.headers", routing_key=queue, mandatory=True),
        header.ContentHeader(body_size=size, properties=properties),
        body.ContentBody(bytes(size)),
    ]
    return tuple(frame.marshal(one, 1) for one in frames[: 3 if size else 2])


def corpus() -> list[Utterance]:
    """What a client sends, every method of a channel among it, well-made; the first two begin a conversation."""
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    methods = [
        commands.Channel.Open(),
        commands.Queue.Declare(queue="q", arguments={"x-max-priority": 5}),
        commands.Queue.Declare(queue="r", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1}),
        commands.Queue.Declare(queue="s", arguments={"x-max-length": 2, **letters}),
        commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key="a.#"),
        commands.Queue.Bind(queue="q", exchange="amq.headers", arguments={"x-match": "any", "a": 1}),
        commands.Queue.Unbind(queue="q", exchange="amq.topic", routing_key="a.#"),
        commands.Queue.Purge(queue="q"),
        commands.Queue.Delete(queue="q"),
        commands.Exchange.Declare(exchange="x", exchange_type="topic", arguments={"alternate-exchange": "y"}),
        commands.Exchange.Bind(destination="x", source="amq.headers", routing_key="a"),
        commands.Exchange.Unbind(destination="x", source="amq.headers", routing_key="a"),
        commands.Exchange.Delete(exchange="x"),
        commands.Basic.Qos(prefetch_count=2),
        *(commands.Basic.Consume(queue=name, consumer_tag=name) for name in "qrs"),
        commands.Basic.Cancel("q"),
        commands.Basic.Get(queue="q"),
        commands.Basic.Ack(1),
        commands.Basic.Ack(0, multiple=True),
        commands.Basic.Nack(0, multiple=True),
        commands.Basic.Nack(2),
        commands.Basic.Reject(1, requeue=False),
        commands.Basic.Recover(True),
        answer(commands.Basic.RecoverAsync, requeue=True),  # pamqp warns of it
        commands.Confirm.Select(),
        commands.Tx.Select(),
        commands.Tx.Commit(),
        commands.Tx.Rollback(),
        commands.Channel.Flow(True),
        commands.Channel.Close(200, "", 0, 0),
    ]
    whole = [(frame.marshal(method, 1),) for method in methods]
    close = (frame.marshal(commands.Connection.Close(200, "", 0, 0), 0),)
    return [*whole, close, (HEARTBEAT_FRAME,), *(_content(name, size) for name in "qrs" for size in (5, 0))]


def said(chance: random.Random, utterance: Utterance, share: float) -> Utterance:
    """The same frames, perhaps broken, and perhaps not all of them."""
    frames = tuple(mutated(chance, data) if chance.random() < share else data for data in utterance)
    return frames[chance.randrange(len(frames)) :] if chance.random() < share else frames


def mutated(chance: random.Random, data: bytes) -> bytes:
    """The same frame, broken in one of five ways."""
    kind = chance.randrange(5)
    spoilt = bytearray(data)
    place = chance.randrange(len(spoilt))
    if kind == 0:
        spoilt[place] ^= 1 << chance.randrange(8)
    elif kind == 1:
        return bytes(spoilt[:place])
    elif kind == 2:
        return bytes(spoilt) * 2
    elif kind == 3:
        spoilt[1:3] = pack(">H", chance.choice((0, 1, 2, 65535)))
    else:
        spoilt[place : place + 1] = chance.randbytes(chance.randrange(9))
        size = len(spoilt) - 8
        if chance.random() < 0.8 and size >= 0:
            spoilt[3:7] = pack(">I", size)
    return bytes(spoilt)


def _greeting() -> bytes:
    start = commands.Connection.StartOk({"capabilities": {}}, "PLAIN", "\0guest\0guest", "en_US")
    agreed = (start, commands.Connection.TuneOk(2047, 131072, 0), commands.Connection.Open())
    return PROTOCOL_HEADER + b"".join(frame.marshal(method, 0) for method in agreed)


GREETING = _greeting()
OPEN_AND_DECLARE = b"".join(corpus()[0] + corpus()[1])
OPEN_AGAIN = (frame.marshal(commands.Channel.CloseOk(), 1), *corpus()[0])


def talk(node: Node, chance: random.Random, utterances: list[Utterance]) -> int:
    """One connection's life; how many frames it was sent."""
    connection, share = Connection(node), chance.choice(BROKEN)
    connection.receive(mutated(chance, GREETING) if chance.random() < share else GREETING)
    connection.receive(OPEN_AND_DECLARE)
    sent = 0
    while sent < FRAMES_OF_A_TALK and connection.state is State.RUNNING and not connection.is_finished:
        batch = [one for _ in range(chance.randint(1, 3)) for one in said(chance, chance.choice(utterances), share)]
        channel = connection.channels.get(1)
        if channel is None or channel.is_closing:
            batch[:0] = OPEN_AGAIN if channel else OPEN_AGAIN[1:]
        sent += len(batch)
        connection.receive(b"".join(batch))
        node.clock.now += 0.001
        node.clock.on_time()
        for one in node.take_dirty():
            one.take_out()
            one.sent(0)
    connection.lost()
    return max(sent, 1)


def is_served(node: Node) -> bool:
    """Whether a well-behaved client gets its answer."""
    connection = Connection(node)
    methods = (commands.Channel.Open(), commands.Queue.Declare(queue="served", exclusive=True), commands.Basic.Qos())
    connection.receive(GREETING + b"".join(frame.marshal(method, 1) for method in methods))
    answer = connection.take_out()
    connection.lost()
    return b"\x00\x3c\x00\x0b" in answer


def fuzz(count: int, seed: int) -> int:
    """Send at least `count` frames; returns how many.

    Raises:
        AssertionError: a client was not forgotten, or the next one not served.
        Exception: whatever the broker should not have raised.
    """
    chance, utterances, node, sent = random.Random(seed), corpus(), Node(), 0
    while sent < count:
        sent += talk(node, chance, utterances)
        assert not node.connections, "a connection outlived its socket"
        if chance.random() < 0.05:
            assert is_served(node), "the next client was not served"
            for queue in [queue for vhost in node.vhosts.values() for queue in vhost.queues.values()]:
                queue.purge()
            assert node.memory.held == 0, "bytes are accounted for that no queue holds"
    return sent


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=1_000_000, help="how many at least (%(default)s)")
    parser.add_argument("--seed", type=int, help="the run to repeat; a random one, printed, if left out")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    started = time.monotonic()
    print(f"seed {options.seed}", flush=True)
    sent = fuzz(options.frames, options.seed)
    print(f"{sent} frames, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
