"""`python -m tools.benchmarks.publishing`: tasks published a second: unconfirmed, confirmed one by one, and in bulk.

Each over the same line, with a round trip that a proxy makes longer, in turn. What counts are the ratios within a
round: load that comes and goes hits all three. The broker is the one that the environment names: take RabbitMQ with
`BROKER=docker`, for the embedded broker would run in the publisher's own process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

import kombu
from celery import Celery
from rich.console import Console
from rich.table import Table

from tests.support.slow_line import slow_line
from waybill import bulk_publish
from waybill.testing import brokers

TASKS = 2_000
CONFIRMED_TASKS = 200
"""Of those that wait for a round trip each."""

ROUNDS = 5
ROUND_TRIPS = (0.0, 0.001, 0.005)
"""Seconds that the proxy adds; with 0 there is none."""

TASK = "benchmark.report"


@contextmanager
def far_away(url: str, round_trip: float) -> Iterator[str]:
    """The broker's URL by way of a proxy, in a process of its own: here it would take the publisher's time."""
    if not round_trip:
        yield url
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_proxy, args=(url, round_trip, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def _proxy(url: str, round_trip: float, pipe: Connection[str, None]) -> None:
    with slow_line(url, round_trip) as slow:
        pipe.send(slow)
        pipe.recv()


def application(url: str, queue: str, is_confirmed: bool) -> Celery:
    """An application that publishes to this queue."""
    app = Celery("benchmark", broker=url, set_as_current=False)
    app.conf.update(task_default_queue=queue, broker_transport_options={"confirm_publish": is_confirmed})

    @app.task(name=TASK, ignore_result=True, shared=False)
    def report(number: int, name: str) -> None: ...

    app.finalize()
    return app


def one_at_a_time(app: Celery, count: int) -> float:
    """Tasks a second with `apply_async`."""
    report = app.tasks[TASK]
    report.apply_async((0, "first"))  # connects and declares
    began = time.perf_counter()
    for number in range(count):
        report.apply_async((number, "north"))
    return count / (time.perf_counter() - began)


def in_bulk(app: Celery, count: int) -> float:
    """Tasks a second with `bulk_publish`, to the last confirm; its connection is opened before."""
    report = app.tasks[TASK]
    with bulk_publish(app) as batch:
        batch.add(report.s(0, "first"))
        began = time.perf_counter()
        for number in range(count):
            batch.add(report.s(number, "north"))
    seconds = time.perf_counter() - began
    batch.raise_for_failures()
    return count / seconds


def measure(url: str, round_trip: float, rounds: int) -> list[tuple[float, float, float]]:
    """Each round's rates: unconfirmed, confirmed one by one, in bulk."""
    queue = f"waybill-benchmark-{uuid.uuid4().hex[:8]}"
    found = []
    try:
        plain, confirmed = (application(url, queue, is_confirmed) for is_confirmed in (False, True))
        ways: tuple[Callable[[], float], ...] = (
            lambda: one_at_a_time(plain, TASKS),
            lambda: one_at_a_time(confirmed, CONFIRMED_TASKS if round_trip else TASKS),
            lambda: in_bulk(plain, TASKS),
        )
        for _ in range(rounds):
            first, second, third = (way() for way in ways)
            found.append((first, second, third))
            _purge(url, queue)
        for app in (plain, confirmed):
            app.close()
            app.pool.force_close_all()
    finally:
        with kombu.Connection(url) as connection:
            connection.default_channel.queue_delete(queue)
            connection.default_channel.exchange_delete(queue)
    return found


def _purge(url: str, queue: str) -> None:
    with kombu.Connection(url) as connection:
        connection.default_channel.queue_purge(queue)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.publishing", description="what a confirm for each task costs a publisher"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds, {ROUNDS} without")
    rounds = parser.parse_args(arguments).rounds
    table = Table(
        *("round trip", "unconfirmed, a second", "one by one", "in bulk", "bulk/unconfirmed", "bulk/one by one")
    )
    with brokers.broker(brokers.choice()) as address:
        for round_trip in ROUND_TRIPS:
            with far_away(address.url, round_trip) as url:
                found = measure(url, round_trip, rounds)
            table.add_row(
                f"{round_trip * 1000:g} ms" if round_trip else "loopback",
                *(f"{statistics.median(column):,.0f}" for column in zip(*found, strict=True)),
                f"{statistics.median(bulk / plain for plain, _, bulk in found):.2f}",
                f"{statistics.median(bulk / confirmed for _, confirmed, bulk in found):.1f}",
            )
    console = Console(width=110)
    console.print(f"{TASKS} tasks, {rounds} rounds in turn, medians; ratios within a round")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
