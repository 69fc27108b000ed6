"""Workers of a lesson's own, which may be killed, and the runs that their tasks tell of.

They are services of docker-compose.yml with the profile `lessons`: nobody else starts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from celery import Task
from kombu import Queue
from kombu.message import Message as KombuMessage

from publishers.support import results
from publishers.support.opening import COMPOSE, gather, local_workers
from publishers.support.stage import Stage
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.names import worker_name
from waybill.errors import FleetError
from waybill.testing import receipts
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers
from worker.app import app
from worker.reliability import RAN

# Seconds in which what is waited for has to happen, and between two looks where nobody tells.
TIMEOUT = 60.0
LOOK_EVERY = 0.02


@dataclass(frozen=True, slots=True)
class Ran:
    """A task's run, as the task itself told it.

    Attributes:
        time: in seconds since the epoch, on the worker's clock.
        deaths: queue and reason of each entry of `x-death`, the latest first.
    """

    task_id: str
    worker: str
    time: float
    deaths: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers of one queue, the watch over them, and the runs that were told so far, in the order of arrival."""

    queue: Queue
    workers: LocalWorkers
    watch: Watch
    ran: list[Ran]

    def publish(self, task: Task[Any, Any], *args: Any) -> str:
        """Publish into the queue; the task's id."""
        return self.watch.publish(task.name, args, queue=self.queue.name).task_id

    def runs(self, task_id: str, count: int) -> list[Ran]:
        """The runs of a task, once there are as many."""
        self.wait(lambda: len(self.runs_of(task_id)) >= count, f"run {count} of the task {task_id}")
        return self.runs_of(task_id)

    def runs_of(self, task_id: str) -> list[Ran]:
        return [one for one in self.ran if one.task_id == task_id]

    def wait(self, is_so: Callable[[], object], what: str) -> None:
        """Hear what the workers tell until it is so.

        Raises:
            FleetError: it is not in time, or a worker has ended by itself.
        """
        deadline = monotonic() + TIMEOUT
        while not is_so():
            self.workers.check_alive()
            if monotonic() > deadline:
                raise FleetError(f"{what} did not come within {TIMEOUT:.0f} s")
            with suppress(TimeoutError):
                self.watch.connection.drain_events(timeout=LOOK_EVERY)


@contextmanager
def crew_of(stage: Stage, queue: Queue) -> Iterator[Crew]:
    """Start the queue's workers, with a place for results, and listen to what their tasks tell.

    Raises:
        FleetError: somebody else consumes the queue.
    """
    if others := stage.workers_of(queue):
        raise FleetError(
            f"queue {queue.name!r} is consumed by {', '.join(others)}: expected nobody, "
            "for this lesson starts the workers that it kills; stop these"
        )
    fleet = read_fleet(COMPOSE, ["lessons"]).consuming([queue.name])
    with (
        results.kept(app, is_ours=True) as where,
        local_workers(fleet, {**stage.environment, **where}, stage.zygote) as workers,
        Watch(app) as watch,
        listening(watch) as ran,
    ):
        gather(watch, tuple(fleet), workers)
        yield Crew(queue, workers, watch, ran)


@contextmanager
def listening(watch: Watch) -> Iterator[list[Ran]]:
    """The runs that tasks tell of within the block, as they come."""
    ran: list[Ran] = []

    def on_event(event: Mapping[str, Any], _message: KombuMessage) -> None:
        ran.append(
            Ran(
                task_id=event["uuid"],
                worker=worker_name(event["hostname"]),
                time=event["timestamp"],
                deaths=tuple((queue, reason) for queue, reason in event["deaths"]),
            )
        )

    with receipts.listening(app, watch.connection, RAN.replace("-", "."), on_event):
        yield ran
