"""Publish tasks, and measure: when each was published and done, and which worker ran it.

The worker is known by its receipt, the end by the result, which carries the time at which it was stored. Both are on
the worker's clock and the publication on ours: what is measured here holds on one machine, or with clocks in step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from celery import Task
from celery.result import AsyncResult

from publishers.support.results import outcome
from publishers.support.stage import Stage
from waybill.testing.receipts import Receipt


@dataclass(frozen=True, slots=True)
class Sent:
    """A task on its way; published at this time, in seconds since the epoch."""

    result: AsyncResult
    published: float


@dataclass(frozen=True, slots=True)
class Run:
    """A task that is done.

    Attributes:
        worker: the node name of the one that ran it.
        published, received, done: in seconds since the epoch.
    """

    task_id: str
    worker: str
    queue: str
    returned: Any
    published: float
    received: float
    done: float

    @property
    def took(self) -> float:
        """Seconds from the publication to the end."""
        return self.done - self.published

    def to_dict(self) -> dict[str, Any]:
        """As the lessons' `--json` prints it."""
        return {
            "task_id": self.task_id,
            "worker": self.worker,
            "queue": self.queue,
            "published": self.published,
            "received": self.received,
            "done": self.done,
        }


def send(task: Task[Any, Any], *args: Any, **options: Any) -> Sent:
    """Publish a task whose run is to be measured; the options are those of `apply_async`."""
    now = time()
    return Sent(task.apply_async(args, **options), now)


def wait_for(sent: Iterable[Sent]) -> None:
    """Return when these tasks are done, also while other workers look away.

    Raises:
        FleetError: a result did not come in time.
    """
    for one in sent:
        outcome(one.result)


def finished(stage: Stage, *groups: Sequence[Sent]) -> list[list[Run]]:
    """The runs of each group of tasks, in the order in which they were done.

    All workers must consume again (see `settle`), and all of them are asked once for all groups.
    """
    for group in groups:
        wait_for(group)
    received = stage.watch.receipts_of(one.result.id for group in groups for one in group)
    return [
        sorted((_run(one, received[one.result.id][-1]) for one in group), key=lambda run: run.done) for group in groups
    ]


def _run(sent: Sent, receipt: Receipt) -> Run:
    return Run(
        task_id=receipt.task_id,
        worker=receipt.worker,
        queue=receipt.queue,
        returned=sent.result.result,
        published=sent.published,
        received=receipt.time,
        done=sent.result.date_done.timestamp(),
    )


def facts(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """What `--json` says of each run."""
    return [run.to_dict() for run in runs]
