"""The two clients of the broker's benchmark: as little client as can be, so that what is measured is the broker.

Both know beforehand what every frame looks like: the publisher sends one encoded publication again and again and
counts confirms, the consumer cuts deliveries by their constant size and acknowledges each. They run as processes of
their own (`python -m tools.benchmarks.loads publish|consume|paced URL QUEUE COUNT`) and print one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import select
import time
from struct import Struct

from pamqp import commands, frame

from tests.support.wire import Wire

BODY = b"x" * 475
"""A Celery task of two small arguments, as it goes over the wire."""

PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "headers": {
        "lang": "py",
        "task": "publishers.tasks.resize",
        "id": "3f2b8a52-6a6e-4f6a-8f9b-0d8a2d9f9a61",
        "retries": 0,
        "root_id": "3f2b8a52-6a6e-4f6a-8f9b-0d8a2d9f9a61",
        "argsrepr": "('a.png', 640)",
    },
    "delivery_mode": 1,
    "priority": 0,
    "correlation_id": "3f2b8a52-6a6e-4f6a-8f9b-0d8a2d9f9a61",
    "reply_to": "6d2d2a7e-50c1-3d1c-9d0b-3d5c8f2a7c11",
}
WINDOW = 500
"""Publications that may be unconfirmed."""

PREFETCH = 500
_ACK = Struct(">BHIHHQBB")
_CONFIRM = Struct(">QB")
_STAMP = Struct(">d")


def publication(wire: Wire, queue: str) -> bytes:
    """The frames of one publication."""
    method = commands.Basic.Publish(exchange="", routing_key=queue)
    return wire.content_bytes(1, method, BODY, **PROPERTIES)


def publish(url: str, queue: str, count: int) -> dict[str, float]:
    """Publish so many messages, never more than `WINDOW` unconfirmed."""
    wire = Wire(url)
    wire.open_channel()
    wire.call(1, commands.Confirm.Select())
    one = publication(wire, queue)
    batch = one * 50
    sent = confirmed = 0
    started = time.perf_counter()
    buffer = b""
    while confirmed < count:
        while sent < count and sent - confirmed <= WINDOW - 50:
            wire.socket.sendall(batch)
            sent += 50
        buffer += wire.socket.recv(65536)
        whole = len(buffer) // 21
        if whole:  # every frame that comes is a basic.ack; the last one says enough
            last = (whole - 1) * 21
            tag, is_multiple = _CONFIRM.unpack_from(buffer, last + 11)
            confirmed = tag if is_multiple else max(tag, confirmed)
            buffer = buffer[whole * 21 :]
    return {"seconds": time.perf_counter() - started, "count": count}


def consume(url: str, queue: str, count: int) -> dict[str, float]:
    """Take so many messages and acknowledge each."""
    wire = Wire(url)
    wire.open_channel()
    wire.call(1, commands.Basic.Qos(0, PREFETCH, False))
    wire.call(1, commands.Basic.Consume(queue=queue, consumer_tag="c"))
    print("ready", flush=True)
    size = len(publication(wire, queue)) - _publish_size(queue) + _deliver_size(queue)
    taken, buffer, first = 0, b"", 0.0
    while taken < count:
        buffer += wire.socket.recv(262144)
        if not first:
            first = time.perf_counter()
        whole = len(buffer) // size
        if whole:
            acks = b"".join(_ACK.pack(1, 1, 13, 60, 80, taken + place, 0, 0xCE) for place in range(1, whole + 1))
            wire.socket.sendall(acks)
            taken += whole
            buffer = buffer[whole * size :]
    seconds = time.perf_counter() - first
    wire.call(1, commands.Basic.Qos())
    return {"seconds": seconds, "count": count}


def paced(url: str, queue: str, count: int, rate: int = 1000) -> dict[str, float]:
    """Publish at a steady rate and take the messages on the same thread; the latencies in milliseconds."""
    wire, reader = Wire(url), Wire(url)
    wire.open_channel()
    reader.open_channel()
    reader.call(1, commands.Basic.Consume(queue=queue, consumer_tag="c", no_ack=True))
    one = publication(wire, queue)
    start, end = one[: -len(BODY) - 1], one[-1:]
    size = len(one) - _publish_size(queue) + _deliver_size(queue)
    latencies: list[float] = []
    began, sent, buffer = time.perf_counter(), 0, b""
    while len(latencies) < count:
        due = began + sent / rate if sent < count else began + count / rate + 1
        now = time.perf_counter()
        if now >= due and sent < count:
            wire.socket.sendall(start + _STAMP.pack(now) + BODY[8:] + end)
            sent += 1
            continue
        if not select.select([reader.socket], [], [], max(due - now, 0))[0]:
            continue
        buffer += reader.socket.recv(65536)
        now = time.perf_counter()
        while len(buffer) >= size:
            latencies.append((now - _STAMP.unpack_from(buffer, size - 1 - len(BODY))[0]) * 1000)
            buffer = buffer[size:]
    latencies.sort()
    return {"p50_ms": latencies[count // 2], "p99_ms": latencies[int(count * 0.99)], "count": count}


def _publish_size(queue: str) -> int:
    return len(frame.marshal(commands.Basic.Publish(routing_key=queue), 1))


def _deliver_size(queue: str) -> int:
    return len(frame.marshal(commands.Basic.Deliver("c", 1, False, "", queue), 1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.loads", description="One client of a broker.")
    parser.add_argument("what", choices=("publish", "consume", "paced"))
    parser.add_argument("url")
    parser.add_argument("queue")
    parser.add_argument("count", type=int, help="messages")
    given = parser.parse_args()
    client = {"publish": publish, "consume": consume, "paced": paced}[given.what]
    print(json.dumps(client(given.url, given.queue, given.count)), flush=True)
