"""Tasks that kill their worker, that fail and try again, and that never succeed: publishers/celery/reliability.py.

Each says that it runs, and what it knows of itself, by a Celery event `lesson-ran`: whoever waits for one doesn't
have to guess how long a worker needs.
"""

from __future__ import annotations

import os
import signal
from time import sleep
from typing import Any

from celery import Task
from celery.exceptions import Reject
from celery.worker.control import control_command

from exchanges.reliability import DELAY_QUEUES, DELAYS
from worker.app import app

RAN = "lesson-ran"

# Seconds that a task runs unless its worker is killed; longer than anybody waits for the kill.
LONG = 120.0

# The header that counts how often somebody has put a dead letter back: publishers/support/dead_letters.py.
REQUEUED = "x-requeued"


@app.task(bind=True)
def survive(self: Task[Any, Any]) -> str:
    """Run for long; delivered again, because the worker was killed, be done at once."""
    if not tell(self):
        sleep(LONG)
    return "done"


@app.task(bind=True, reject_on_worker_lost=True)
def rejected_when_lost(self: Task[Any, Any]) -> str:
    """End the process that runs the task, as a segmentation fault or the kernel's memory killer would, the first time.

    The worker then rejects the message, so that it is delivered again.
    """
    if not tell(self):
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@app.task(bind=True)
def acknowledged_when_lost(self: Task[Any, Any]) -> str:
    """The same; the worker lives, calls the task failed and acknowledges it, late acks or not."""
    if not tell(self):
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@app.task(bind=True, max_retries=len(DELAYS))
def back_off(self: Task[Any, Any], is_poison: bool = False) -> str:
    """Fail, and try again by way of the delay queues; the attempt after the longest delay succeeds.

    Args:
        is_poison: fail then too, and let the message be parked; put back by hand it succeeds.
    """
    tell(self)
    attempt = self.request.retries
    if attempt < len(DELAYS):
        # The countdown, 180 s by default, is the queue's business.
        raise self.retry(queue=DELAY_QUEUES[attempt].name, countdown=0)
    if is_poison and not self.request.get(REQUEUED):
        raise Reject("no attempt is left", requeue=False)
    return "done"


@app.task(bind=True, max_retries=1)
def count_down(self: Task[Any, Any], seconds: float) -> str:
    """Fail once, and try again after this many seconds by Celery's own countdown."""
    tell(self)
    if not self.request.retries:
        raise self.retry(countdown=seconds)
    return "done"


@app.task(bind=True)
def come_behind(self: Task[Any, Any]) -> str:
    """Be in the queue behind another task."""
    tell(self)
    return "done"


def tell(task: Task[Any, Any]) -> bool:
    """Say that the task runs, and which queues its message died in; True when it was delivered before."""
    deaths = [(death["queue"], death["reason"]) for death in task.request.get("x-death") or ()]
    task.send_event(RAN, deaths=deaths)
    return bool(task.request.delivery_info["redelivered"])


@control_command()
def look_after_children(state: Any) -> dict[str, str]:
    """Let the worker look now whether one of its processes has died.

    It is woken by the end of each, but where there are several cores it often looks before the kernel is done with it,
    and then again only after up to five seconds (celery/concurrency/asynpool.py, `timers`).
    """
    state.consumer.pool.maintain_pool()
    return {"ok": "looked"}
