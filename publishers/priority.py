"""Into the queue with priorities: python -m publishers.priority 1 9 5"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import priority
from publishers.control import looking_away
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from waybill.testing.watch import Delivery
from worker import tasks

QUEUE = priority.QUEUES[0]


def lesson(stage: Stage, priorities: Sequence[int] = ()) -> None:
    """Fill the queue `tasks` with a task of each PRIORITY while its worker looks away, and show the order of service.

    Without a PRIORITY: 1 9 5.
    """
    stage.say(f"published in the order {' '.join(map(str, priorities or (1, 9, 5)))}, served in this one:")
    with looking_away(stage, QUEUE):
        for value in priorities or (1, 9, 5):
            stage.publish(tasks.work, str(value), exchange=priority.tasks, routing_key="tasks", priority=value)
    served = sorted(stage.show(order=_when_received), key=_when_received)
    order = [delivery.publication.priority for delivery in served if delivery.received]
    stage.expect("priorities in the order of service", order, sorted(order, key=lambda value: -(value or 0)))


def _when_received(delivery: Delivery) -> float:
    return min((receipt.time for receipt in delivery.received), default=0.0)


main = publisher(priority.QUEUES)(
    click.argument("priorities", metavar="[PRIORITY]...", nargs=-1, type=click.IntRange(0, priority.MAX_PRIORITY))(
        lesson
    )
)

if __name__ == "__main__":
    run(main, name="python -m publishers.priority")
