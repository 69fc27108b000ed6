"""`python -m tools.benchmarks.diff`: an application with 10,000 bindings against a RabbitMQ that has nearly all.

RabbitMQ is the one that the environment names (`BROKER`), a container without; a vhost is made there and deleted.
The bindings are loaded by importing definitions, which isn't timed. Without a Docker engine the table stays empty.
"""

from __future__ import annotations

import argparse
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from celery import Celery
from kombu import Exchange, Queue, binding
from rich.console import Console
from rich.table import Table

from tools.benchmarks.timing import Row
from tools.benchmarks.workload import binding_keys
from waybill.celery_app.declared import from_celery
from waybill.diff import Place, declared_by, difference
from waybill.errors import BrokerUnavailable
from waybill.rabbitmq.management import Management
from waybill.rabbitmq.state import live_facts
from waybill.testing import brokers
from waybill.topology.definitions import to_definitions

BINDINGS = 10_000
QUEUES = 100
CHANGED = 10
"""Bindings of the application that don't live, and as many that live and aren't declared any more."""

GOAL = 5.0
"""Seconds for all of it."""

ROUNDS = 3
"""The quickest counts: on a shared machine the others only ever add."""

PIECE = 500
"""Bindings that are imported at once."""

T = TypeVar("T")


def application(bound: slice) -> Celery:
    """Queues that share the keys out, on one topic exchange; of all keys those of the slice are bound."""
    app = Celery("benchmark", broker="amqp://", set_as_current=False)
    news = Exchange("bench", "topic")
    keys = list(enumerate(binding_keys(BINDINGS + CHANGED)))[bound]
    app.conf.task_queues = [
        Queue(f"queue{number}", [binding(news, key) for index, key in keys if index % QUEUES == number])
        for number in range(QUEUES)
    ]
    app.conf.task_default_queue = "queue0"
    return app


@contextmanager
def loaded(app: Celery) -> Iterator[Management]:
    """A vhost in which this application has declared everything.

    Raises:
        BrokerUnavailable: there is no RabbitMQ, and none can be started.
    """
    which = brokers.choice()
    with brokers.broker(brokers.DOCKER if which == brokers.EMBEDDED else which) as address:
        vhost = f"benchmark-{uuid.uuid4().hex[:12]}"
        with Management(address.management_url or "", vhost) as management:
            management.create_vhost()
            try:
                _load(management, to_definitions(from_celery(app, vhost=vhost)))
                yield management
            finally:
                management.delete_vhost()


def _load(management: Management, definitions: dict[str, Any]) -> None:
    """In pieces: RabbitMQ takes many seconds for ten thousand topic bindings, more than one answer may take."""
    bindings = definitions.pop("bindings")
    management.import_definitions({**definitions, "bindings": []})
    for first in range(0, len(bindings), PIECE):
        management.import_definitions({"bindings": bindings[first : first + PIECE]})


def measured(management: Management, app: Celery, vhost: str) -> tuple[list[Row], Any]:
    """Each step's seconds and the sum; the plan."""
    taken: list[tuple[str, float]] = []
    live = _timed(taken, "ask RabbitMQ what lives", lambda: live_facts(management, vhost))
    declared = _timed(taken, "what the application declares", lambda: declared_by(app))
    place = Place("benchmark", management.address)
    plan = _timed(taken, "compare", lambda: difference(declared, live, place))
    whole = sum(seconds for _, seconds in taken)
    rows = [Row(subject, seconds, "s") for subject, seconds in taken]
    return [*rows, Row("together", whole, "s", goal=f"under {GOAL:g} s", is_reached=whole < GOAL)], plan


def _timed(taken: list[tuple[str, float]], subject: str, work: Callable[[], T]) -> T:
    started = time.perf_counter()
    result = work()
    taken.append((subject, time.perf_counter() - started))
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.diff", description="how long a large diff takes")
    parser.parse_args(arguments)
    before, now = application(slice(None, BINDINGS)), application(slice(CHANGED, None))
    console = Console()
    try:
        with loaded(before) as management:
            version = management.overview()["rabbitmq_version"]
            vhost = management.vhost()["name"]
            rows, plan = min((measured(management, now, vhost) for _ in range(ROUNDS)), key=lambda one: one[0][-1].ours)
    except BrokerUnavailable as error:
        console.print(f"not measured: {error}", markup=False, soft_wrap=True)
        return 0
    if (len(plan.create), len(plan.failures), len(plan.stale)) != (CHANGED, 0, CHANGED):
        raise RuntimeError(f"{len(plan.create)} to create, {len(plan.stale)} stale: nothing worth timing")
    table = Table("what", "seconds", "goal", "reached")
    for row in rows:
        table.add_row(row.subject, f"{row.ours:.2f}", row.goal, {True: "yes", False: "NO", None: ""}[row.is_reached])
    console.print(table)
    console.print(f"{BINDINGS:,} bindings of {QUEUES} queues, RabbitMQ {version}")
    return 0 if rows[-1].is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
