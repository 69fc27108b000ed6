"""`python -m tools.benchmarks.receipts`: what receipts cost a worker: tasks a second with and without them, in turn.

A queue is filled, then a worker with one process empties it; timed from its first task to its last, inside the
worker. The broker is the one that the environment names (`BROKER`), a container without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery import Celery
from rich.console import Console
from rich.table import Table

from waybill import enable_receipts
from waybill.testing import brokers

TASKS = 3_000
ROUNDS = 5
"""Turns of the worker without and with receipts: load that comes and goes hits both."""

DEADLINE = 120.0
"""Seconds in which a worker has to empty the queue."""

GRACE = 10.0
"""Seconds that it gets to end by itself."""

QUEUE = "waybill.benchmark"
URL, WITH_RECEIPTS = "WAYBILL_BENCHMARK_URL", "WAYBILL_BENCHMARK_RECEIPTS"

app = Celery("benchmark", broker=os.environ.get(URL, "amqp://"), set_as_current=False)
app.conf.update(
    task_default_queue=QUEUE, worker_prefetch_multiplier=1, task_acks_late=True, broker_connection_retry_on_startup=True
)
if os.environ.get(WITH_RECEIPTS):
    enable_receipts(app)


@app.task(name="benchmark.tick", ignore_result=True)
def tick(number: int, clock: str) -> None:
    """Note the time of the first task and of the last, and the processor time of the worker until then."""
    if number in (0, TASKS - 1):
        with Path(clock).open("a") as file:
            file.write(f"{time.perf_counter()} {_processor_seconds(os.getppid())}\n")


def _processor_seconds(pid: int) -> float:
    values = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def seconds(url: str, clock: Path, with_receipts: bool) -> tuple[float, float]:
    """Fill the queue, let a worker empty it: how long it took, and what processor time the worker itself used."""
    clock.write_text("")
    with app.producer_or_acquire() as producer:
        for number in range(TASKS):
            tick.apply_async((number, str(clock)), producer=producer)
    command = ["celery", "-A", "tools.benchmarks.receipts", "worker", "-Q", QUEUE, "-c", "1"]
    quick = ["--without-mingle", "--without-gossip", "-l", "error"]
    environment = {**os.environ, **brokers.environment(url), URL: url, WITH_RECEIPTS: "1" if with_receipts else ""}
    worker = subprocess.Popen([sys.executable, "-m", *command, *quick], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + DEADLINE
    try:
        while len(ticks := clock.read_text().split()) < 4:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the worker didn't empty the queue within {DEADLINE:.0f} seconds")
            if worker.poll() is not None:
                raise RuntimeError(f"the worker ended with exit code {worker.returncode}")
            time.sleep(0.1)
    finally:
        worker.terminate()
        try:
            worker.wait(GRACE)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    return float(ticks[2]) - float(ticks[0]), float(ticks[3]) - float(ticks[1])


@contextmanager
def clean() -> Iterator[None]:
    """Leave nothing on the broker: neither the queue nor the exchange that Celery declares with it."""
    try:
        yield
    finally:
        with brokers.connect(app) as connection:
            connection.default_channel.queue_delete(QUEUE)
            connection.default_channel.exchange_delete(QUEUE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.receipts", description="what receipts cost a worker"
    )
    parser.parse_args(arguments)
    without, with_receipts = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        brokers.broker(brokers.choice()) as address,
        brokers.use_broker(app, address.url),
    ):
        clock = Path(folder) / "clock"
        with clean():
            for _ in range(ROUNDS):
                without.append(seconds(address.url, clock, False))
                with_receipts.append(seconds(address.url, clock, True))
    table = Table("worker", "tasks a second, median", "best", "worker's processor time a task, median")
    for name, rounds in (("without receipts", without), ("with receipts", with_receipts)):
        times, processor = zip(*rounds, strict=True)
        table.add_row(
            name,
            f"{TASKS / statistics.median(times):,.0f}",
            f"{TASKS / min(times):,.0f}",
            f"{statistics.median(processor) / TASKS * 1e6:,.0f} µs",
        )
    console = Console()
    console.print(f"{TASKS} tasks, {ROUNDS} rounds in turn")
    console.print(table)
    for column, what in enumerate(("time", "the worker's processor time")):
        ratio = statistics.median(
            one[column] / other[column] for one, other in zip(with_receipts, without, strict=True)
        )
        console.print(f"{what} with receipts: {ratio:.3f} of that without (median of the rounds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
