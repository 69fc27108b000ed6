"""Tasks that need the result of another task: the ways that Celery refuses, and the one that it offers."""

from __future__ import annotations

from time import time
from typing import Any

from celery import Task, chain
from celery.exceptions import TimeoutError as NoResult

from worker.app import app
from worker.tasks import add


@app.task
def get_within(task_id: str) -> float:
    """Publish a sum and wait for it: Celery refuses the wait, and the sum has been published all the same."""
    return float(add.apply_async((2, 2), task_id=task_id).get())


@app.task
def wait_within(task_id: str, seconds: float) -> dict[str, Any]:
    """The same with the refusal switched off: the sum waits in the queue for this very process, until we give up."""
    result = add.apply_async((2, 2), task_id=task_id)
    try:
        got = result.get(timeout=seconds, disable_sync_subtasks=False)
    except NoResult as error:
        got = type(error).__name__
    return {"got": got, "ended": time()}


@app.task(bind=True)
def hand_over(self: Task[Any, Any], x: float) -> None:
    """Let other tasks go on in our place: their result becomes ours, and this process is free meanwhile."""
    raise self.replace(chain(add.s(x, x), add.s(4)))
