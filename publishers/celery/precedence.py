"""Routing from both ends, and who is heard when several name a queue: python -m publishers.celery.precedence

The whole of it, made by asking Celery, is docs/reference/routing-options.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kombu import Queue

import exchanges
from exchanges import default, lanes
from publishers.support.control import consume
from publishers.support.program import publisher
from publishers.support.routing_sources import FUNCTION, QUEUES, SAYS, TASK, ranked
from publishers.support.stage import Stage
from waybill.celery_app import publication
from waybill.celery_app.names import worker_name
from waybill.cli.running import run
from waybill.errors import FleetError
from waybill.testing.watch import Watch
from worker import tasks
from worker.app import app


def lesson(stage: Stage) -> None:
    """Publish a task that many route, each to another queue; then let another worker consume one of these queues."""
    by_the_publisher(stage)
    by_the_consumer(stage)


def by_the_publisher(stage: Stage) -> None:
    """Everybody says another queue; who is heard falls silent, and the next one is heard."""
    stage.say("everybody names another queue; who was heard is silent the next time:")
    for who, case in ranked():
        name = f"task_routes, {who}" if who in (*QUEUES, FUNCTION) else who
        sent = publication.publish(case.application(), stage.watch.connection, TASK, **case.call)
        stage.follow(sent, name.replace("regular expression", "regex"))
    stage.show()


def by_the_consumer(stage: Stage) -> None:
    """One call, twice: where it runs is decided by who consumes the queue, as `-Q` or remote control says."""
    queue, (giver, *_), (taker, *_) = lanes.cleanup, _workers(stage, lanes.cleanup), _workers(stage, default.QUEUES[0])
    tell_consumer(stage, stage.watch, queue, giver)
    with handed_over(stage, queue, giver, taker) as watch:
        tell_consumer(stage, watch, queue, taker)


def _workers(stage: Stage, queue: Queue) -> list[str]:
    """The node names of the workers that consume it.

    Raises:
        FleetError: nobody does.
    """
    if not (workers := stage.workers_of(queue)):
        raise FleetError(f"no worker consumes {queue.name!r}: this lesson hands it from one worker to another")
    return workers


@contextmanager
def handed_over(stage: Stage, queue: Queue, giver: str, taker: str) -> Iterator[Watch]:
    """For the length of the block another worker consumes the queue; yields a watch that knows it."""
    consume(queue, [giver], on=False)
    consume(queue, [taker], on=True)
    try:
        with Watch(app) as watch:
            watch.discover_workers(worker_name(worker) for worker in stage.watch.consumers_by_worker)
            # On Redis the giver may still wait for a message of its former queues, and would put it back unseen. Each
            # worker has taken a marker after this, so that its next wait is for the queues that it has now.
            watch.settle()
            yield watch
    finally:
        consume(queue, [taker], on=False)
        consume(queue, [giver], on=True)


def tell_consumer(stage: Stage, watch: Watch, queue: Queue, worker: str) -> None:
    """One line: the same call, and who took it."""
    watch.publish(tasks.work.name, queue=queue.name)
    # Settled here: a later lesson's `show` must not find a message that it knows nothing of.
    (delivery,) = watch.settle()
    name = worker_name(worker)
    stage.tell(
        f"queue='{queue.name}', which {name} consumes",
        ", ".join(one.place for one in delivery.received),
        task_id=delivery.publication.task_id,
    )


main = publisher([queue for queue in exchanges.QUEUES if queue.name in SAYS.values()])(lesson)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.precedence")
