"""How a task ends, as a test states it, without the task's body: rejected, failed, retried or succeeded.

A stand-in takes the task's place for one message. It has the task's name and what decides about its message
(`acks_late`, `max_retries`, ...), and a body that does what is stated and nothing else. Celery's own request and tracer
run it, so Celery decides what follows: whether a reject reaches the broker, where a retry is published, which link is
next. Nothing of the project is called: no body, no `on_failure`, no result backend, no handler of a task's signals.

An outcome holds for the first receptions of a message, one by default. Otherwise a dead letter that comes back to a
worker would be rejected for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery import Celery, Task, signals
from celery.app.trace import build_tracer, trace_task_ret
from celery.backends.base import DisabledBackend
from celery.concurrency.base import apply_target
from celery.exceptions import Reject
from celery.worker.request import Request
from kombu.message import Message as KombuMessage

from waybill.celery_app.handlers import silenced
from waybill.testing.outcomes import Outcome

_LOGGER = logging.getLogger(__name__)

# What Celery sends while a task runs and ends. A project's handlers may write to a database, or mail somebody.
TASK_SIGNALS = (
    signals.task_prerun,
    signals.task_postrun,
    signals.task_success,
    signals.task_failure,
    signals.task_retry,
    signals.task_revoked,
    signals.task_internal_error,
)

# What of a task decides about its message.
DECIDING = ("acks_late", "acks_on_failure_or_timeout", "max_retries", "default_retry_delay", "serializer", "priority")

# Deaths for which the worker that had the message is the cause.
REJECTED = ("rejected", "delivery_limit")


class StatedFailure(Exception):
    """The failure that a test has stated."""


class StatedOutcomes:
    """The outcomes that a test has stated, in the process that receives the messages.

    Args:
        app: the application of the tasks.
        hostname: the worker's node name.
    """

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._stand_ins: dict[str, tuple[Outcome, Task]] = {}

    def replace(self, outcomes: Mapping[str, Outcome]) -> None:
        """These outcomes hold from now on, and no others."""
        self._stand_ins = {name: (outcome, _stand_in(self._app, name, outcome)) for name, outcome in outcomes.items()}

    def end(self, message: KombuMessage, connection_errors: tuple[type[BaseException], ...]) -> tuple[str, ...]:
        """End a message as stated, or acknowledge it where nothing is stated.

        Returns:
            Celery's names for what happened, such as `("failed", "rejected")`; empty where nothing was stated.
        """
        headers = message.headers or {}
        outcome, stand_in = self._stand_ins.get(headers.get("task", ""), (None, None))
        if outcome is None or receptions_before(message) >= outcome.times:
            message.ack_log_error(_LOGGER, connection_errors)
            return ()
        happened = _Events()
        request = Request(
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            app=self._app,
            hostname=self._hostname,
            task=stand_in,
            eventer=happened,
            connection_errors=connection_errors,
        )
        with silenced(*TASK_SIGNALS):
            if not request.revoked():
                request.execute_using_pool(_Inline(stand_in))
        return tuple(happened.names)


def receptions_before(message: KombuMessage) -> int:
    """How often a worker has had this message before, by what the message itself says."""
    headers = message.headers or {}
    deaths = [death for death in headers.get("x-death") or () if isinstance(death, Mapping)]
    rejected = sum(int(death.get("count", 1)) for death in deaths if death.get("reason") in REJECTED)
    # A quorum queue counts how often it delivered the message; other queues only say that they did.
    returned = headers.get("x-delivery-count") or int(bool(message.delivery_info.get("redelivered")))
    return int(headers.get("retries") or 0) + rejected + int(returned)


def _stand_in(app: Celery, name: str, outcome: Outcome) -> Task:
    """A task of this name with a body that brings the outcome about. The application doesn't know it."""
    known = app.tasks.get(name)
    decided = {one: getattr(known, one) for one in DECIDING if known is not None}

    def run(self: Task, *_args: Any, **_kwargs: Any) -> Any:
        stated = StatedFailure(f"a test states that {name} ends so: {outcome.kind}")
        if outcome.kind == "reject":
            raise Reject(stated, requeue=outcome.requeue)
        if outcome.kind == "retry":
            raise self.retry(exc=stated, countdown=outcome.countdown)
        if outcome.kind == "fail":
            raise stated
        return outcome.result

    kind = type("StandIn", (Task,), {"name": name, "run": run, "ignore_result": True, "typing": False, **decided})
    stand_in = kind()
    stand_in.bind(app)
    stand_in.backend = DisabledBackend(app)
    stand_in.__trace__ = build_tracer(name, stand_in, app=app)
    return stand_in


class _Inline:
    """A pool that runs one task at once, here.

    Args:
        task: what is run, whatever the application has under its name.
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    def apply_async(self, _target: object, args: tuple[Any, ...], **callbacks: Any) -> None:
        apply_target(trace_task_ret, args, {"app": _Only(self._task)}, **callbacks)


class _Only:
    """What Celery's tracer asks of an application: its settings, and one task."""

    def __init__(self, task: Task) -> None:
        self.conf = task.app.conf
        self.tasks = {task.name: task}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tasks[next(iter(self.tasks))].app, name)


class _Events:
    """Takes the events that a request sends when it ends, and keeps their names."""

    enabled = True

    def __init__(self) -> None:
        self.names: list[str] = []

    def send(self, kind: str, **_: object) -> None:
        name = kind.removeprefix("task-")
        if name != "started":
            self.names.append(name)
