"""`python -m benchmarks.receipts`: what receipts cost a worker: tasks a second with and without them, in turn.

A queue is filled, then a worker with one process empties it; timed from its first task to its last, inside the
worker. The broker is the one that the environment names (`BROKER`), a container without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from celery import Celery
from rich.console import Console
from rich.table import Table

from waybill import provision, receipts

TASKS = 3_000
ROUNDS = 5
"""Turns of the worker without and with receipts: load that comes and goes hits both."""

QUEUE = "waybill.benchmark"
URL, WITH_RECEIPTS = "WAYBILL_BENCHMARK_URL", "WAYBILL_BENCHMARK_RECEIPTS"

app = Celery("benchmark", broker=os.environ.get(URL, "amqp://"), set_as_current=False)
app.conf.update(
    task_default_queue=QUEUE, worker_prefetch_multiplier=1, task_acks_late=True, broker_connection_retry_on_startup=True
)
if os.environ.get(WITH_RECEIPTS):
    receipts.enable(app)


@app.task(name="benchmark.tick", ignore_result=True)
def tick(number: int, clock: str) -> None:
    """Note the time of the first task and of the last."""
    if number in (0, TASKS - 1):
        with Path(clock).open("a") as file:
            file.write(f"{time.perf_counter()}\n")


def seconds(url: str, clock: Path, with_receipts: bool) -> float:
    """Fill the queue, let a worker empty it, and say how long it took."""
    clock.write_text("")
    provision.point(app, url)
    with app.producer_or_acquire() as producer:
        for number in range(TASKS):
            tick.apply_async((number, str(clock)), producer=producer)
    command = ["celery", "-A", "benchmarks.receipts", "worker", "-Q", QUEUE, "-c", "1"]
    quick = ["--without-mingle", "--without-gossip", "-l", "error"]
    environment = {**os.environ, URL: url, WITH_RECEIPTS: "1" if with_receipts else ""}
    worker = subprocess.Popen([sys.executable, "-m", *command, *quick], env=environment, stdout=subprocess.DEVNULL)
    try:
        while len(ticks := clock.read_text().split()) < 2:
            if worker.poll() is not None:
                raise RuntimeError(f"the worker ended with exit code {worker.returncode}")
            time.sleep(0.1)
    finally:
        worker.terminate()
        worker.wait()
    return float(ticks[1]) - float(ticks[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.receipts", description="what receipts cost a worker")
    parser.parse_args(arguments)
    clock = Path("benchmarks/receipts.clock").resolve()
    without, with_receipts = [], []
    with provision.broker(provision.choice()) as address:
        for _ in range(ROUNDS):
            without.append(seconds(address.url, clock, False))
            with_receipts.append(seconds(address.url, clock, True))
    clock.unlink()
    table = Table("worker", "tasks a second, median", "best", title=f"{TASKS} tasks, {ROUNDS} rounds in turn")
    for name, times in (("without receipts", without), ("with receipts", with_receipts)):
        table.add_row(name, f"{TASKS / statistics.median(times):,.0f}", f"{TASKS / min(times):,.0f}")
    console = Console()
    console.print(table)
    ratios = [ours / theirs for ours, theirs in zip(with_receipts, without, strict=True)]
    console.print(f"time with receipts: {statistics.median(ratios):.3f} of the time without (median of the rounds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
