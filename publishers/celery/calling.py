"""Ways to call a task, and what becomes of it: python -m publishers.celery.calling worker.tasks.add 2 2 --queue cleanup

A call with parentheses runs here; `delay` and `apply_async` publish, and return an `AsyncResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from celery.result import AsyncResult

from exchanges import default, direct, lanes, priority
from publishers.support.one_call import call_one
from publishers.support.program import pairs, publisher
from publishers.support.results import LOOK_EVERY, outcome
from publishers.support.stage import Stage
from waybill.cli.running import run
from waybill.testing.receipts import Receipt
from worker import tasks
from worker.app import app
from worker.calling import told

# Seconds: how long a delayed task waits, when it expires if it hasn't run, and how long `get` waits for it.
DELAY, EXPIRY, PATIENCE = 2, 1.5, 1
# Seconds that a call from the command line may ask to be waited for.
LONGEST = 10

NEEDS = (default.QUEUES[0], direct.videos, lanes.cleanup, priority.QUEUES[0])
_, VIDEOS, CLEANUP, TASKS = (queue.name for queue in NEEDS)


@click.argument("task", required=False)
@click.argument("arguments", nargs=-1)
@click.option("--queue", help="The queue to send to.")
@click.option("--exchange", help="The exchange to publish to, with --routing-key.")
@click.option("--routing-key", help="The routing key.")
@click.option("--countdown", type=click.FloatRange(0, LONGEST), help="Seconds until it may run.")
@click.option("--expires", type=click.FloatRange(0, min_open=True), help="Seconds after which it must not run.")
@click.option("--priority", type=click.IntRange(0, priority.MAX_PRIORITY), help="The message's priority.")
@click.option("--header", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated.")
def lesson(stage: Stage, task: str | None = None, arguments: Sequence[str] = (), **options: Any) -> None:
    """Call TASK with ARGUMENTS, each as JSON or else as text, and these options, and show who got it and its result.

    Without a TASK: every way to call one, each option, and what an AsyncResult answers.
    """
    if task is not None:
        call_one(stage, task, arguments, _given(**options))
        return
    if _given(**options):
        raise click.UsageError(f"{', '.join(_given(**options))}: expected a TASK to call with it")
    if not stage.serves(NEEDS):
        return
    call_here(stage)
    publish_it(stage)
    say_where(stage)
    say_when(stage)
    ask_result(stage)


def call_here(stage: Stage) -> None:
    """The function itself: nobody receives anything."""
    stage.watch.settle()
    returned = tasks.add(2, 2)
    received = sorted(one.worker_name for one in stage.watch.everything() if one.task == tasks.add.name)
    stage.tell(
        "add(2, 2)",
        f"{returned} · received by {', '.join(received) or 'no worker: it ran here'}",
        returned=returned,
        received=received,
    )


def publish_it(stage: Stage) -> None:
    """The two ways to publish; `delay` takes what the task takes, and nothing else."""
    tell_call(stage, "add.delay(2, 2)", tasks.add.delay(2, 2))
    tell_call(stage, "add.apply_async((2, 2))", tasks.add.apply_async((2, 2)))
    happened = attempt(lambda: tasks.add.delay(2, 2, queue=CLEANUP))
    stage.tell(f"add.delay(2, 2, queue='{CLEANUP}')", happened)


def say_where(stage: Stage) -> None:
    """The options that choose a queue, or what waits first, and headers for whoever reads them."""
    tell_call(stage, f"queue='{CLEANUP}'", tasks.add.apply_async((2, 2), queue=CLEANUP))
    key = direct.videos.routing_key
    through = {"exchange": direct.media.name, "routing_key": key}
    tell_call(stage, f"exchange='media', routing_key='{key}'", tasks.add.apply_async((2, 2), **through))
    result = told.apply_async(queue=TASKS, priority=9)
    outcome(result)
    received = receipts(stage, result)
    happened = f"{shown(received)} · priority {', '.join(str(one.priority) for one in received)}"
    stage.tell(f"queue='{TASKS}', priority=9", happened, task_id=result.id)
    result = told.apply_async(headers={"customer": "7"})
    heard = _told(result)["headers"]
    stage.tell("headers={'customer': '7'}", f"the task reads {heard}", task_id=result.id)


def say_when(stage: Stage) -> None:
    """The options about time, each to another worker: a task that waits in a worker may keep others from it."""
    later = datetime.now(UTC) + timedelta(seconds=DELAY)
    at = told.apply_async(eta=later, queue=VIDEOS)
    expiring = told.apply_async(countdown=DELAY, expires=EXPIRY, queue=CLEANUP)
    lasting = told.apply_async(expires=60, queue=TASKS)
    delayed = told.apply_async(countdown=DELAY)
    stage.tell(
        f"countdown={DELAY}: get(timeout={PATIENCE})",
        f"{attempt(lambda: delayed.get(timeout=PATIENCE, interval=LOOK_EVERY)).partition(':')[0]}, {delayed.state}",
        task_id=delayed.id,
    )
    tell_delay(stage, f"countdown={DELAY}: get()", delayed)
    tell_delay(stage, "eta=datetime.now(UTC) + timedelta(...)", at)
    returned = outcome(expiring, propagate=False)
    stage.tell(
        f"expires={EXPIRY}, countdown={DELAY}",
        f"{type(returned).__name__}: {returned}, {expiring.state}",
        task_id=expiring.id,
    )
    tell_ran(stage, "expires=60", lasting)


def ask_result(stage: Stage) -> None:
    """What an AsyncResult answers: before, after success, after failure, and when it has been forgotten."""
    result = tasks.add.delay(2, 2)
    stage.tell("result.get(timeout=30)", str(outcome(result)), task_id=result.id)
    received = [one.task_id for one in receipts(stage, result)]
    known = "the id that the worker received" if received == [result.id] else f"{result.id}, received {received}"
    stage.tell("result.id", known, task_id=result.id)
    tell_state(stage, "add(2, 2)", result)
    failing = tasks.divide.delay(1, 0)
    outcome(failing, propagate=False)
    tell_state(stage, "divide(1, 0)", failing)
    stage.tell("divide(1, 0): get()", attempt(failing.get), task_id=failing.id)
    lines = (failing.traceback or "").splitlines()
    in_task = [line.strip() for line in lines if line.endswith("in divide")]
    happened = f"{len(in_task)} line in divide, ends with {lines[-1] if lines else 'nothing'}"
    stage.tell(
        "divide(1, 0): traceback",
        happened,
        task_id=failing.id,
        traceback=failing.traceback,
    )
    result.forget()
    again = app.AsyncResult(result.id)
    stage.tell(
        "result.forget()",
        f"{again.state}: as if it had never been called",
        task_id=result.id,
    )


def attempt(call: Callable[[], object]) -> str:
    """What a call returned or, as a traceback's last line would have it, what it raised."""
    try:
        return str(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def receipts(stage: Stage, result: AsyncResult) -> tuple[Receipt, ...]:
    return stage.watch.receipts_of([result.id])[result.id]


def shown(received: Sequence[Receipt]) -> str:
    return ", ".join(one.place for one in received)


def tell_call(stage: Stage, what: str, result: AsyncResult) -> None:
    """One line: the sum, and where it was made."""
    returned = outcome(result)
    happened = f"{returned} · {shown(receipts(stage, result))}"
    stage.tell(what, happened, returned=returned, task_id=result.id)


def tell_delay(stage: Stage, what: str, result: AsyncResult) -> None:
    """One line: a delayed task is received at once and waits in the worker, not in the queue."""
    heard = _told(result)
    due = datetime.fromisoformat(heard["eta"]).timestamp()
    (received,) = receipts(stage, result)
    came = "received at once" if received.time < due else "received late"
    ran = "ran when it was time" if heard["ran"] >= due else "ran too early"
    stage.tell(
        what,
        f"{came}, {ran}",
        task_id=result.id,
        due=due,
        received=received.time,
        ran=heard["ran"],
    )


def tell_ran(stage: Stage, what: str, result: AsyncResult) -> None:
    expires = datetime.fromisoformat(_told(result)["expires"]).timestamp()
    ran = "ran before that" if _told(result)["ran"] < expires else "ran too late"
    stage.tell(what, f"{ran}, {result.state}", task_id=result.id)


def tell_state(stage: Stage, what: str, result: AsyncResult) -> None:
    happened = f"{result.state}, successful() {result.successful()}, failed() {result.failed()}"
    stage.tell(f"{what}: state", happened, task_id=result.id)


def _told(result: AsyncResult) -> dict[str, Any]:
    heard = outcome(result)
    assert isinstance(heard, dict)
    return heard


def _given(header: Sequence[str] = (), **options: Any) -> dict[str, Any]:
    """The options that were given."""
    headers = {"headers": pairs(header)} if header else {}
    return {name: value for name, value in options.items() if value is not None} | headers


main = publisher(NEEDS, needs_results=True)(lesson)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.calling")
