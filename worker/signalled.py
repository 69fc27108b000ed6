"""A task whose signals are heard, each in the process in which Celery sends it, and the clean-up after its failure.

Who hears a signal passes it on as a Celery event of the group `signal`: whoever wants to know listens to the broker,
and reads no log. Celery's event carries the process id, the worker and the time.

A handler is connected to one sender. For most signals that is the task; for `before_task_publish` it is the task's
*name*, and for `task_received` it is the worker's consumer, so that there the handler itself has to look at the name.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Task, signals
from celery.utils.dispatch import Signal
from celery.worker.consumer import Consumer
from celery.worker.request import Request

from exchanges import lanes
from worker.app import app

EVENT_GROUP = "signal"
EVENT = f"{EVENT_GROUP}-sent"


@app.task(bind=True)
def deliver(self: Task[Any, Any], parcel: str) -> str:
    """Deliver a parcel: one that is late at the second attempt, one that is fragile never."""
    if parcel == "late" and self.request.retries == 0:
        raise self.retry(countdown=0)
    if parcel == "fragile":
        raise ValueError(f"the {parcel} parcel is broken")
    return f"{parcel} delivered"


@app.task
def clean_up(task_id: str) -> str:
    """Put away what a failed delivery left."""
    return f"cleaned up after {task_id}"


def clean_up_id(task_id: str) -> str:
    """The id of the clean-up after this task: with it, whoever knows the task can tell whether there was one."""
    return f"clean-up-{task_id}"


@signals.task_failure.connect(sender=deliver)
def order_clean_up(task_id: str, **_: object) -> None:
    """In a queue of its own it waits behind no delivery. When any other task fails, this isn't called."""
    clean_up.apply_async((task_id,), task_id=clean_up_id(task_id), queue=lanes.cleanup.name)


def _in_task(sender: Task[Any, Any], signal: Signal, **_: object) -> None:
    _pass_on(signal, sender.request.id, sender.request.hostname)


for _one in (
    signals.task_prerun,
    signals.task_success,
    signals.task_retry,
    signals.task_failure,
    signals.task_postrun,
):
    _one.connect(_in_task, sender=deliver)


@signals.before_task_publish.connect(sender=deliver.name)
def _on_publish(signal: Signal, **_: object) -> None:
    """A retry is a publication, by the process that runs the task. The first publication is the publisher's affair."""
    if not deliver.request.called_directly:
        _in_task(deliver, signal)


@signals.task_received.connect
def _on_received(sender: Consumer, signal: Signal, request: Request, **_: object) -> None:
    if request.name == deliver.name:
        _pass_on(signal, request.id, sender.hostname)


def _pass_on(signal: Signal, task_id: str, worker: str) -> None:
    with app.events.default_dispatcher(hostname=worker) as dispatcher:
        dispatcher.send(EVENT, uuid=task_id, signal=signal.name, parent_pid=os.getppid())
