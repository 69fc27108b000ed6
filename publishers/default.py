"""A task without routing options, or for one queue: python -m publishers.default --queue videos"""

from __future__ import annotations

import click

import exchanges
from publishers.support.lesson import lesson
from waybill.errors import UnknownName
from worker import tasks
from worker.app import app


def known(_ctx: click.Context, _option: click.Parameter, queues: tuple[str, ...]) -> tuple[str, ...]:
    """Celery raises QueueNotFound for any other queue, since `task_create_missing_queues` is off."""
    for queue in queues:
        if queue not in app.amqp.queues:
            raise UnknownName("queue", queue, app.amqp.queues, "the application")
    return queues


@lesson(
    exchanges.QUEUES,
    "QUEUE",
    default=(None,),
    argument=click.option(
        "--queue", "values", multiple=True, callback=known, help="The queue to send to; without it the default queue."
    ),
)
def publish(queue: str | None) -> None:
    """Publish a task without routing options, or to one QUEUE by its name.

    Celery publishes both to the default exchange, with the name of the queue as routing key.
    """
    if queue is None:
        tasks.work.apply_async(("hello",), mandatory=True)
    else:
        tasks.work.apply_async(("hello",), queue=queue, mandatory=True)


if __name__ == "__main__":
    publish.run()
