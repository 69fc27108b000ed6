"""The queue with priorities: python -m publishers.priority 1 9 5"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from exchanges import priority
from publishers.support.control import paused_consumers
from publishers.support.lesson import lesson
from publishers.support.stage import Stage
from waybill.testing.delivery import Delivery
from worker import tasks


@contextmanager
def paused(stage: Stage, values: Sequence[int]) -> Iterator[None]:
    """Nobody consumes the queue while it is filled: priority orders waiting messages, not prefetched ones."""
    stage.say(f"published in the order {' '.join(map(str, values))}, served in this one:")
    with paused_consumers(stage, priority.QUEUES[0]):
        yield


def when_received(delivery: Delivery) -> float:
    """When the first worker received the message, in seconds since the epoch."""
    return min((receipt.time for receipt in delivery.received), default=0.0)


@lesson(
    priority.QUEUES,
    "PRIORITY",
    default=(1, 9, 5),
    kind=click.IntRange(0, priority.MAX_PRIORITY),
    around=paused,
    order=when_received,
)
def publish(value: int) -> None:
    """Fill the queue `tasks` with a task of each PRIORITY, and show the order in which they are served."""
    tasks.work.apply_async(
        (str(value),),
        exchange="tasks",
        exchange_type="direct",
        routing_key="tasks",
        priority=value,
        mandatory=True,
    )


if __name__ == "__main__":
    publish.run()
