"""Wait for a result, or not, and how long the caller was blocked: python -m publishers.celery.waiting --seconds 0.3

And why a task must not wait for another one, and what it does instead.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from itertools import count
from math import isnan
from time import monotonic
from typing import Any

import click
from celery import chain
from celery.result import AsyncResult

from exchanges import default, lanes
from publishers.support.program import publisher
from publishers.support.results import RESULT_TIMEOUT, outcome
from publishers.support.stage import Stage
from waybill.cli.running import run
from waybill.errors import FleetError
from worker import tasks, waiting
from worker.app import app

# Seconds that each task takes: at least, without another wish, and at most.
SHORTEST, SECONDS, LONGEST = 0.1, 0.3, 5.0
# Seconds for which a task waits for another one that can't start before it ends.
PATIENCE = 0.5

CLEANUP = lanes.cleanup.name


def _refuse_nan(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """The one number that is outside of no range."""
    if isnan(value):
        raise click.BadParameter(f"{value} is not a number of seconds")
    return value


@click.option(
    "--seconds",
    type=click.FloatRange(SHORTEST, LONGEST),
    callback=_refuse_nan,
    default=SECONDS,
    show_default=True,
    help="How long each task takes.",
)
def lesson(stage: Stage, seconds: float = SECONDS) -> None:
    """Publish tasks that take some time, use their results in the ways there are, and show what the caller could do."""
    wait(stage, seconds)
    work_on(stage, seconds)
    pass_on(stage, seconds)
    get_in_a_task(stage)
    hand_over(stage)


def wait(stage: Stage, seconds: float) -> None:
    """Synchronous: publish and `get`, which blocks for as long as the task takes."""
    result = tasks.nap.delay(seconds)
    returned, blocked = timed(lambda: outcome(result))
    what, instead = "wait: nap.delay(...).get()", "then went on"
    tell_blocked(stage, what, instead, blocked, task_id=result.id, returned=returned)


def work_on(stage: Stage, seconds: float) -> None:
    """Asynchronous: publish, do something else while the result isn't ready, and take it when it is."""
    result = tasks.nap.delay(seconds)
    steps = sum(1 for _ in own_work(result))
    returned, blocked = timed(lambda: outcome(result))
    what, instead = "work until ready(), then get()", f"did {steps} steps of its own work"
    tell_blocked(stage, what, instead, blocked, task_id=result.id, returned=returned, steps=steps)


def own_work(result: AsyncResult) -> Iterator[int]:
    """What the caller has to do anyway, step by step, until the result is there.

    Raises:
        FleetError: it did not come in time.
    """
    deadline = monotonic() + RESULT_TIMEOUT
    for number in count():
        if result.ready():
            return
        if monotonic() > deadline:
            raise FleetError(f"no result of the task {result.id} within {RESULT_TIMEOUT:.0f} s")
        yield sum(range(1000 * (number % 100)))


def pass_on(stage: Stage, seconds: float) -> None:
    """Asynchronous, and the caller never asks: a worker publishes the task that uses the result."""
    then = tasks.add.s(1).set(queue=CLEANUP)
    used = then.freeze()
    result, blocked = timed(lambda: tasks.nap.apply_async((seconds,), link=then))
    returned = outcome(used)
    what, instead = "pass on: link=add.s(1)", f"the sum was made by {stage.places(used)[used.id]}"
    tell_blocked(stage, what, instead, blocked, task_id=used.id, returned=returned, linked_to=result.id)


def get_in_a_task(stage: Stage) -> None:
    """Celery refuses it, for the reason that shows when the refusal is switched off: both wait for one process."""
    inner = app.AsyncResult(str(uuid.uuid4()))
    outer = waiting.get_within.delay(inner.id)
    refusal = outcome(outer, propagate=False)
    happened = f"{type(refusal).__name__}: {str(refusal).partition(chr(10))[0]}"
    stage.tell("in a task: add.delay(2, 2).get()", happened, task_id=outer.id)
    happened = f"{outcome(inner)} · {stage.places(inner)[inner.id]}"
    stage.tell("the sum, published before the refusal", happened, task_id=inner.id)
    inner = app.AsyncResult(str(uuid.uuid4()))
    outer = waiting.wait_within.delay(inner.id, PATIENCE)
    heard, summed = outcome(outer), outcome(inner)
    assert isinstance(heard, dict)
    (received,) = stage.watch.receipts_of([inner.id])[inner.id]
    order = "received after that" if received.time > heard["ended"] else "received before that"
    stage.tell(
        f"refusal off: get(timeout={PATIENCE})",
        f"{heard['got']}; the sum, {order}, was {summed}",
        task_id=outer.id,
        ended=heard["ended"],
        inner_id=inner.id,
        received=received.time,
    )


def hand_over(stage: Stage) -> None:
    """What to write instead: from outside a chain, from within a task `self.replace`; no process waits."""
    linked = chain(tasks.add.s(6, 6), tasks.add.s(4)).apply_async()
    stage.tell("instead: chain(add.s(6, 6), add.s(4))", str(outcome(linked)), task_id=linked.id)
    replaced = waiting.hand_over.delay(6)
    returned = outcome(replaced)
    # The last of the tasks that take our place has our id, and so its result is ours.
    ran = [one.task.rpartition(".")[2] for one in stage.watch.receipts_of([replaced.id])[replaced.id]]
    happened = f"{returned} · under one id ran {', then '.join(ran)}"
    stage.tell("in a task: raise self.replace(chain(...))", happened, task_id=replaced.id)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returned, and the seconds that it took."""
    began = monotonic()
    returned = call()
    return returned, monotonic() - began


def tell_blocked(stage: Stage, what: str, instead: str, blocked: float, **facts: Any) -> None:
    """One line: for how long the caller could do nothing, and what it, or somebody else, did then."""
    stage.tell(what, f"blocked for {blocked:.2f} s, {instead}", blocked=blocked, **facts)


main = publisher((*default.QUEUES, lanes.cleanup), needs_results=True)(lesson)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.waiting")
