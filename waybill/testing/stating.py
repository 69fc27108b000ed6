"""Stating how tasks end: the part of a watch that tells the workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from celery import Celery, Task

from waybill.errors import FleetError, InputError, UnknownName
from waybill.testing.outcomes import COMMAND, Outcome

# Seconds in which every worker has to say that it knows what a test states of a task.
STATE_TIMEOUT = 10.0


class Workers(Protocol):
    """What a watch asks of the workers that were started for it."""

    @property
    def runs_tasks(self) -> bool:
        """False where they receive and acknowledge only."""

    def queues(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Node name -> its queues, as Celery's `inspect` tells them; empty where the workers are to be asked."""

    def state(self, outcomes: Mapping[str, Outcome]) -> bool:
        """Let these tasks end so; False where the workers are to be told by remote control."""

    def refresh(self) -> bool:
        """Consume what has been added to the application; whether they consume more than before."""

    def is_publishing(self) -> bool:
        """Whether it is they who publish, in the thread that asks."""


class Stating(ABC):
    """What a watch states of tasks."""

    app: Celery
    _workers: Workers | None
    _stated: dict[str, Outcome]

    @property
    @abstractmethod
    def consumers_by_worker(self) -> dict[str, dict[str, str]]:
        """Node name -> queue -> exchange."""

    def reject(self, task: str | Task, *, times: int = 1, requeue: bool = False) -> None:
        """From now on the task is rejected instead of run: for the first receptions of each message.

        Celery decides whether the reject reaches the broker: a task that is acknowledged early has no message left.

        Args:
            task: the task, or its name.
            times: for how many receptions of one message; a dead letter that comes back counts.
            requeue: the message goes back to its queue.
        """
        self._state(task, Outcome("reject", times, requeue=requeue))

    def fail(self, task: str | Task, *, times: int = 1) -> None:
        """From now on the task fails instead of being run; arguments as for `reject`."""
        self._state(task, Outcome("fail", times))

    def retry(self, task: str | Task, *, times: int = 1, countdown: float = 0) -> None:
        """From now on the task is retried instead of run, after so many seconds; arguments as for `reject`."""
        self._state(task, Outcome("retry", times, countdown=countdown))

    def succeed(self, task: str | Task, result: Any = None) -> None:
        """From now on the task returns this instead of being run, so that its links and chain are published."""
        self._state(task, Outcome("succeed", result=result))

    def _state(self, task: str | Task = "", outcome: Outcome | None = None) -> None:
        """Tell the workers how tasks end; without a task, only what is stated already."""
        if not self._only_receives:
            raise InputError(
                "a task's end can be stated where workers receive only; these run their tasks (run=True, or the "
                "setting waybill_run_tasks)"
            )
        if outcome is not None:
            name = task if isinstance(task, str) else task.name
            if name not in self.app.tasks:
                raise UnknownName("task", name, self.app.tasks, f"the application {self.app.main!r}")
            self._stated[name] = outcome
        assert self._workers is not None
        if not self._workers.state(self._stated):
            self._broadcast_outcomes()

    def _broadcast_outcomes(self) -> None:
        told = {name: outcome.to_json() for name, outcome in self._stated.items()}
        asked = set(self.consumers_by_worker)
        replies = self.app.control.broadcast(
            COMMAND,
            arguments={"outcomes": told},
            destination=sorted(asked),
            reply=True,
            timeout=STATE_TIMEOUT,
            limit=len(asked),
        )
        heard = {worker for reply in replies or () for worker, answer in reply.items() if "ok" in answer}
        if missing := ", ".join(sorted(asked - heard)):
            raise FleetError(
                f"no answer within {STATE_TIMEOUT:.0f} s from {missing}: what a test states isn't known there"
            )

    @property
    def _only_receives(self) -> bool:
        return self._workers is not None and not self._workers.runs_tasks
