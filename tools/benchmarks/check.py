"""`python -m tools.benchmarks.check`: the time of `waybill check` without a broker, from the application's import on.

The application has 200 queues with 1,000 bindings, 1,000 entries of `task_routes` and 500 tasks; once with classic
queues, once with quorum queues, where Celery delays natively and every task is published a second time, delayed.

Then the whole command, on a project of 1,000 modules with a task and 10 calls each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
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

MODULES, CALLS = 1_000, 10
COMMAND_GOAL = 10.0
"""Seconds for `waybill check` on the project, the interpreter's start included."""

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


def command_seconds(folder: Path) -> float:
    """Of the processor, for `waybill check` on a project that is written into the folder."""
    imports = ", ".join(f"'proj.part_{number}'" for number in range(MODULES))
    (folder / "proj").mkdir()
    (folder / "proj" / "__init__.py").write_text(
        f"from celery import Celery\napp = Celery('proj', broker='amqp://', include=[{imports}])\n"
    )
    for number in range(MODULES):
        calls = "".join(f"    work.apply_async((one,), priority={call}, queue='celery')\n" for call in range(CALLS))
        (folder / "proj" / f"part_{number}.py").write_text(
            f"from proj import app\n\n@app.task(name='proj.work_{number}')\ndef work(one): ...\n\n"
            f"def call(one):\n{calls}"
        )
    before = os.times()
    command = [sys.executable, "-m", "waybill", "-A", "proj", "check", "--select", "WB1,WB2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = os.times()
    assert f"read {MODULES + 1:,}".replace(",", "") in done.stdout, done.stdout + done.stderr
    return after.children_user + after.children_system - before.children_user - before.children_system


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    argparse.ArgumentParser(prog="python -m tools.benchmarks.check", description="a check's speed").parse_args(
        arguments
    )
    print(f"{QUEUES} queues, {BINDINGS:,} bindings, {ROUTES:,} routes, {TASKS} tasks; seconds of the processor")
    table = Table("queues", "facts", "rules", "both", "goal", "reached")
    is_reached = True
    for queue_type in ("classic", "quorum"):
        with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):  # no source of ours is read
            facts, rules = seconds(application(queue_type))
        is_reached &= facts + rules < GOAL
        both = facts + rules
        reached = "yes" if both < GOAL else "NO"
        table.add_row(queue_type, f"{facts:.2f} s", f"{rules:.2f} s", f"{both:.2f} s", f"under {GOAL:g} s", reached)
    Console().print(table)
    with tempfile.TemporaryDirectory() as folder:
        took = command_seconds(Path(folder))
    is_reached &= took < COMMAND_GOAL
    said = "reached" if took < COMMAND_GOAL else "NOT reached"
    print(f"{MODULES:,} modules, {MODULES * CALLS:,} calls: {took:.1f} s; goal {COMMAND_GOAL:g} s, {said}")
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
