"""Frames that nobody should send, by the million: the broker must answer or close, and serve the next client.

    python -m tests.fuzz --frames 1000000 --seed 1

Bytes go straight into a `Connection`, without sockets. A run starts from real frames and breaks them: bits turned,
frames cut, doubled, swapped, sizes and channels changed, tables grown. After each conversation the node must have
forgotten the client, a well-behaved one must be served, and nothing but a `ProtocolRefusal` may have been raised.
"""

from __future__ import annotations

import argparse
import random
import time
from struct import pack

from pamqp import body, commands, frame, header

from tests.wire import PROTOCOL_HEADER
from waybill.broker.connection import Connection
from waybill.broker.handshake import State
from waybill.broker.node import Node

FRAMES_OF_A_TALK = 40
"""After so many the connection is given up and another begun."""


def _content(size: int) -> list[bytes]:
    properties = commands.Basic.Properties(headers={"a": 1, "n": {"x": [1, "y"]}}, priority=1, expiration="60000")
    data = bytes(size)
    return [
        frame.marshal(commands.Basic.Publish(exchange="amq.headers", routing_key="q"), 1),
        frame.marshal(header.ContentHeader(body_size=size, properties=properties), 1),
        frame.marshal(body.ContentBody(data), 1),
    ]


def corpus() -> list[bytes]:
    """Well-made frames of every kind that a client sends."""
    methods = [
        commands.Channel.Open(),
        commands.Queue.Declare(queue="q", arguments={"x-max-priority": 5}),
        commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key="a.#"),
        commands.Queue.Bind(queue="q", exchange="amq.headers", arguments={"x-match": "any", "a": 1}),
        commands.Queue.Purge(queue="q"),
        commands.Queue.Delete(queue="q"),
        commands.Exchange.Declare(exchange="x", exchange_type="topic", arguments={"alternate-exchange": "y"}),
        commands.Exchange.Delete(exchange="x"),
        commands.Basic.Qos(prefetch_count=2),
        commands.Basic.Consume(queue="q", consumer_tag="c"),
        commands.Basic.Cancel("c"),
        commands.Basic.Get(queue="q"),
        commands.Basic.Ack(1),
        commands.Basic.Nack(1),
        commands.Basic.Reject(1),
        commands.Basic.Recover(True),
        commands.Confirm.Select(),
        commands.Tx.Select(),
        commands.Tx.Commit(),
        commands.Channel.Close(200, "", 0, 0),
    ]
    whole = [frame.marshal(method, 1) for method in methods]
    return [*whole, frame.marshal(commands.Connection.Close(200, "", 0, 0), 0), *_content(5), *_content(0)[:2]]


def mutated(chance: random.Random, data: bytes) -> bytes:
    """The same frame, perhaps broken."""
    kind = chance.randrange(8)
    if kind <= 2:
        return data
    spoilt = bytearray(data)
    place = chance.randrange(len(spoilt))
    if kind == 3:
        spoilt[place] ^= 1 << chance.randrange(8)
    elif kind == 4:
        return bytes(spoilt[:place])
    elif kind == 5:
        return bytes(spoilt) * 2
    elif kind == 6:
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
OPEN_AND_DECLARE = b"".join(corpus()[:2])


def talk(node: Node, chance: random.Random, frames: list[bytes]) -> int:
    """One connection's life; how many frames it was sent."""
    connection = Connection(node)
    connection.receive(GREETING if chance.random() < 0.9 else mutated(chance, GREETING))
    connection.receive(OPEN_AND_DECLARE)
    sent = 0
    while sent < FRAMES_OF_A_TALK and connection.state is State.RUNNING and not connection.is_finished:
        batch = [mutated(chance, chance.choice(frames)) for _ in range(chance.randint(1, 6))]
        sent += len(batch)
        connection.receive(b"".join(batch))
        node.now += 0.001
        node.on_time()
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


def fuzz(count: int, seed: int, seconds: float = float("inf")) -> int:
    """Send at least `count` frames, or as many as `seconds` allow; returns how many.

    Raises:
        AssertionError: a client was not forgotten, or the next one not served.
        Exception: whatever the broker should not have raised.
    """
    chance, frames, node = random.Random(seed), corpus(), Node()
    sent, ends = 0, time.monotonic() + seconds
    while sent < count and time.monotonic() < ends:
        sent += talk(node, chance, frames)
        assert not node.connections, "a connection outlived its socket"
        if chance.random() < 0.05:
            assert is_served(node), "the next client was not served"
            assert node.queue_bytes == sum(q.ready.size for v in node.vhosts.values() for q in v.queues.values())
    return sent


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    print(f"seed {options.seed}", flush=True)
    sent = fuzz(options.frames, options.seed)
    print(f"{sent} frames, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
