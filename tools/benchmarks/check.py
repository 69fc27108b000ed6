"""`python -m tools.benchmarks.check`: the time of `waybill check` without a broker, from the application's import on.

The application has 200 queues with 1,000 bindings, 1,000 entries of `task_routes` and 500 tasks; once with classic
queues, once with quorum queues, where Celery delays natively and every task is published a second time, delayed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from kombu import Exchange, Queue, binding
from rich.console import Console
from rich.table import Table

from tools.benchmarks.timing import REPEATS
from waybill.check import Facts, check, facts_of

QUEUES, BINDINGS, ROUTES, TASKS = 200, 1_000, 1_000, 500
GOAL = 1.0
"""Seconds for the facts and the rules together."""

AREAS = ("orders", "mail", "media", "reports", "search")


def application(queue_type: str) -> Celery:
    """An application of that size."""
    app = Celery(f"benchmark_{queue_type}", broker="amqp://", set_as_current=False)
    app.conf.update(
        task_queues=[Queue("celery", Exchange("work", "topic"), "celery"), *_queues(queue_type)],
        task_default_queue="celery",
        task_routes=_routes(),
        broker_transport_options={"confirm_publish": True},
    )
    for number in range(TASKS):
        app.task(name=_task(number), shared=False, bind=True, ignore_result=True)(_body())
    app.finalize()
    return app


def _queues(queue_type: str) -> list[Any]:
    work = Exchange("work", "topic")
    each = BINDINGS // QUEUES
    return [
        Queue(
            f"queue_{number}",
            [binding(work, _key(number, more)) for more in range(each)],
            queue_arguments={"x-queue-type": queue_type},
        )
        for number in range(QUEUES)
    ]


def _key(queue: int, more: int) -> str:
    return f"{AREAS[queue % len(AREAS)]}.queue_{queue}" + (f".part_{more}.*" if more else "")


def _routes() -> dict[str, Any]:
    """An entry for each task by name, and globs for as many tasks that other applications have."""
    routes = {_task(number): _route(number % QUEUES) for number in range(TASKS)}
    return {**routes, **{f"{_task(number)}.*": _route(number % QUEUES) for number in range(ROUTES - TASKS)}}


def _route(queue: int) -> dict[str, str]:
    return {"exchange": "work", "exchange_type": "topic", "routing_key": _key(queue, 0)}


def _task(number: int) -> str:
    return f"proj.{AREAS[number % len(AREAS)]}.task_{number}"


def _body() -> Callable[[Any], None]:
    def body(self: Any) -> None:
        raise self.retry()

    return body


def seconds(app: Celery) -> tuple[float, float]:
    """Of the processor, which is shared with others, for the facts and for the rules: the best of a few."""
    facts = rules = float("inf")
    for _ in range(REPEATS):
        started = time.process_time()
        known = Facts(facts_of(app))
        gathered = time.process_time()
        check(known)
        facts = min(facts, gathered - started)
        rules = min(rules, time.process_time() - gathered)
    return facts, rules


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    argparse.ArgumentParser(prog="python -m tools.benchmarks.check", description="a check's speed").parse_args(
        arguments
    )
    print(f"{QUEUES} queues, {BINDINGS:,} bindings, {ROUTES:,} routes, {TASKS} tasks; seconds of the processor")
    table = Table("queues", "facts", "rules", "both", "goal", "reached")
    is_reached = True
    for queue_type in ("classic", "quorum"):
        facts, rules = seconds(application(queue_type))
        is_reached &= facts + rules < GOAL
        both = facts + rules
        reached = "yes" if both < GOAL else "NO"
        table.add_row(queue_type, f"{facts:.2f} s", f"{rules:.2f} s", f"{both:.2f} s", f"under {GOAL:g} s", reached)
    Console().print(table)
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
