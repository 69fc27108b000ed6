"""The embedded broker's speed, beside RabbitMQ on the same cores and beside itself with pamqp on every frame.

    python -m tools.benchmarks.broker [--messages 100000] [--json FILE]

RabbitMQ is a container, or what `--url` names; where there is no Docker it is left out. Each broker is a process of its
own, the publisher and the consumer two more (loads.py). Figures are the median of `ROUNDS` rounds, taken in turns,
so that a machine that is busy for a while is busy for all. Where the clients and not the broker are the bottleneck,
the broker's own processor time says what it could do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pamqp import commands

from tests.support.wire import Wire
from tools.benchmarks import pamqp_broker
from waybill.broker import Broker
from waybill.errors import BrokerUnavailable
from waybill.testing import brokers

ROUNDS = 3
MEMORY_MESSAGES = 100_000
MEMORY_BODY = 500
PACED_MESSAGES = 3000
STARTS = 30
QUEUE = "benchmark"


@contextmanager
def served(*options: str) -> Iterator[tuple[str, int]]:
    """The embedded broker in a process of its own: its address and its process."""
    command = [sys.executable, "-m", "tools.benchmarks.broker", "--serve", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def fresh_queue(url: str) -> Iterator[Wire]:
    """An empty queue."""
    with Wire(url) as wire:
        wire.open_channel()
        wire.call(1, commands.Queue.Delete(queue=QUEUE))
        wire.call(1, commands.Queue.Declare(queue=QUEUE))
        yield wire
        wire.call(1, commands.Queue.Delete(queue=QUEUE))


def load(what: str, url: str, count: int) -> subprocess.Popen[str]:
    """One of the clients of loads.py."""
    command = [sys.executable, "-m", "tools.benchmarks.loads", what, url, QUEUE, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    """What a client has measured."""
    output, _ = process.communicate(timeout=600)
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def throughput(url: str, count: int) -> float:
    """Messages a second from the publisher, confirmed, to the consumer, acknowledged."""
    with fresh_queue(url):
        consumer = load("consume", url, count)
        assert consumer.stdout is not None
        consumer.stdout.readline()
        publisher = load("publish", url, count)
        seconds = max(answer(publisher)["seconds"], answer(consumer)["seconds"])
    return count / seconds


def latency(url: str) -> tuple[float, float]:
    """The median and the 99th percentile at 1,000 messages a second, in milliseconds."""
    with fresh_queue(url):
        found = answer(load("paced", url, PACED_MESSAGES))
    return found["p50_ms"], found["p99_ms"]


def start_up() -> tuple[float, float]:
    """Milliseconds from `Broker()` to the first delivery, and for a broker that comes and goes unused."""
    first, empty = [], []
    for _ in range(STARTS):
        began = time.perf_counter()
        with Broker() as broker, Wire(broker.url) as wire:
            wire.open_channel()
            wire.call(1, commands.Queue.Declare(queue="q"))
            wire.call(1, commands.Basic.Consume(queue="q", no_ack=True))
            wire.publish(1, commands.Basic.Publish(routing_key="q"), b"first")
            wire.wait_for("Basic.Deliver")
            first.append(time.perf_counter() - began)
            wire.call(0, commands.Connection.Close(200, "", 0, 0))
        began = time.perf_counter()
        with Broker():
            pass
        empty.append(time.perf_counter() - began)
    return statistics.median(first) * 1000, statistics.median(empty) * 1000


def memory() -> float:
    """Megabytes that a full queue adds to the broker's process."""
    with served() as (url, pid), fresh_queue(url) as wire:
        before = _resident(pid)
        wire.call(1, commands.Confirm.Select())
        one = wire.content_bytes(
            1, commands.Basic.Publish(routing_key=QUEUE), bytes(MEMORY_BODY), content_type="text/plain"
        )
        for _ in range(MEMORY_MESSAGES // 100):
            wire.send_bytes(one * 100)
        confirmed = 0
        while confirmed < MEMORY_MESSAGES:
            confirmed = wire.wait_for("Basic.Ack").method.delivery_tag
        return _resident(pid) - before


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    values = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def rates(live: str | None, count: int) -> dict[str, dict[str, float]]:
    """Throughput and latency of each broker."""
    found: dict[str, dict[str, list[float]]] = {}
    with served() as (ours, pid), served("--pamqp") as (slow, slow_pid):
        brokers: dict[str, tuple[str, int | None]] = {
            "embedded": (ours, pid),
            "embedded, pamqp on every frame": (slow, slow_pid),
        }
        if live:
            brokers["RabbitMQ"] = (live, None)
        for _ in range(ROUNDS):
            for name, (url, of) in brokers.items():
                figures = found.setdefault(name, {"per_second": [], "p50_ms": [], "p99_ms": [], "cpu_us": []})
                messages = count // 5 if url == slow else count
                began = _cpu(of) if of else 0.0
                figures["per_second"].append(throughput(url, messages))
                figures["cpu_us"].append((_cpu(of) - began) / messages * 1e6 if of else 0.0)
                for key, value in zip(("p50_ms", "p99_ms"), latency(url), strict=True):
                    figures[key].append(value)
    return {
        name: {key: statistics.median(values) for key, values in figures.items()} for name, figures in found.items()
    }


def beside(which: str, count: int) -> dict[str, dict[str, float]]:
    """The rates beside this RabbitMQ; without it, with a line that says why, where it cannot be had."""
    try:
        with brokers.broker(which) as rabbitmq:
            return rates(rabbitmq.url, count)
    except BrokerUnavailable as error:
        print(f"without RabbitMQ: {error}", file=sys.stderr)
        return rates(None, count)


def table(result: dict[str, Any]) -> str:
    """The figures for a person."""
    lines = [f"{'':34}{'messages/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'CPU us/message':>16}"]
    for name, figures in result["brokers"].items():
        lines.append(f"{name:34}{figures['per_second']:>12,.0f}{figures['p50_ms']:>10.2f}{figures['p99_ms']:>10.2f}")
    ours = result["brokers"]["embedded"]["per_second"]
    for name, figures in result["brokers"].items():
        if name != "embedded":
            lines.append(f"embedded : {name} = {ours / figures['per_second']:.1f} in messages a second")
            if figures["cpu_us"]:
                ratio = figures["cpu_us"] / result["brokers"]["embedded"]["cpu_us"]
                lines.append(f"embedded : {name} = {ratio:.1f} in messages a second of the broker's processor time")
    lines.append(f"from Broker() to the first delivery  {result['first_delivery_ms']:.1f} ms")
    lines.append(f"a broker that comes and goes         {result['empty_broker_ms']:.1f} ms")
    lines.append(f"{MEMORY_MESSAGES:,} messages of {MEMORY_BODY} bytes    {result['memory_mb']:.0f} MB")
    lines.append(result["machine"])
    return "\n".join(lines)


def serve(*, through_pamqp: bool) -> None:
    """Be the broker under test."""

    async def run() -> None:
        async with Broker() as broker:
            print(broker.url, flush=True)
            await asyncio.Event().wait()

    if through_pamqp:
        pamqp_broker.install()
    asyncio.run(run())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.broker", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--json", type=Path, default=Path("tools/benchmarks/broker.json"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--pamqp", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--url", default=brokers.DOCKER, help="RabbitMQ: `docker` or an AMQP URL (%(default)s)")
    options = parser.parse_args()
    if options.serve:
        serve(through_pamqp=options.pamqp)
        return
    first, empty = start_up()
    result: dict[str, Any] = {
        "brokers": beside(options.url, options.messages),
        "first_delivery_ms": first,
        "empty_broker_ms": empty,
        "memory_mb": memory(),
        "machine": f"CPython {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores",
    }
    print(table(result))
    options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
