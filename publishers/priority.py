"""Into the queue with priorities: python -m publishers.priority 1 9 5"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic

import click

from exchanges import priority
from publishers.stage import Stage, publisher
from waybill.delivery import Delivery
from waybill.errors import FleetError
from waybill.terminal import run
from worker import tasks
from worker.app import app

# Seconds in which the workers have to answer; with all answers here nothing is waited for.
ANSWER_TIMEOUT = 10.0

QUEUE = priority.QUEUES[0]


def lesson(stage: Stage, priorities: Sequence[int] = ()) -> None:
    """Fill the queue `tasks` with a task of each PRIORITY while its worker looks away, and show the order of service.

    Without a PRIORITY: 1 9 5.
    """
    stage.say(f"published in the order {' '.join(map(str, priorities or (1, 9, 5)))}, served in this one:")
    with looking_away(stage):
        for value in priorities or (1, 9, 5):
            stage.publish(tasks.work, str(value), exchange=priority.tasks, routing_key="tasks", priority=value)
    served = sorted(stage.show(order=_when_received), key=_when_received)
    order = [delivery.publication.priority for delivery in served if delivery.received]
    stage.expect("priorities in the order of service", order, sorted(order, key=lambda value: -(value or 0)))


@contextmanager
def looking_away(stage: Stage) -> Iterator[None]:
    """The queue's workers stop consuming it for the length of the block, so that it fills.

    An idle worker would take each message as it comes, and no priority could be seen.
    """
    workers = stage.workers_of(QUEUE)
    if not workers:
        yield
        return
    answers = {"reply": True, "limit": len(workers), "connection": stage.watch.connection, "timeout": ANSWER_TIMEOUT}
    if len(app.control.cancel_consumer(QUEUE.name, destination=workers, **answers)) < len(workers):
        raise FleetError(
            f"not all of {', '.join(workers)} stopped consuming {QUEUE.name!r} within {ANSWER_TIMEOUT:.0f} s"
        )
    _await_cancelled(stage, workers)
    try:
        yield
    finally:
        app.control.add_consumer(QUEUE.name, destination=workers, **answers)


def _await_cancelled(stage: Stage, workers: Sequence[str]) -> None:
    """Wait until no worker has the queue: they answer before they have cancelled (celery/worker/control.py).

    Raises:
        FleetError: one still has it.
    """
    inspect = app.control.inspect(
        workers, limit=len(workers), connection=stage.watch.connection, timeout=ANSWER_TIMEOUT
    )
    deadline = monotonic() + ANSWER_TIMEOUT
    while _is_consumed(inspect.active_queues() or {}, len(workers)):
        if monotonic() > deadline:
            raise FleetError(f"{', '.join(workers)} still consume {QUEUE.name!r} after {ANSWER_TIMEOUT:.0f} s")


def _is_consumed(answers: Mapping[str, Sequence[Mapping[str, str]]], workers: int) -> bool:
    """Whether a worker still has the queue, or hasn't said."""
    return len(answers) < workers or any(queue["name"] == QUEUE.name for own in answers.values() for queue in own)


def _when_received(delivery: Delivery) -> float:
    return min((receipt.time for receipt in delivery.received), default=0.0)


main = publisher(priority.QUEUES)(
    click.argument("priorities", metavar="[PRIORITY]...", nargs=-1, type=click.IntRange(0, priority.MAX_PRIORITY))(
        lesson
    )
)

if __name__ == "__main__":
    run(main, name="python -m publishers.priority")
