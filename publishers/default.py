"""A task without routing options, or straight to a queue: python -m publishers.default [--queue NAME]"""

from __future__ import annotations

from typing import Any

import click

import exchanges
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from worker import tasks


def lesson(stage: Stage, queue: str | None = None) -> None:
    """Publish a task without routing options, or to one queue by its name.

    Celery publishes both through the default exchange, with the name of the queue as routing key.
    """
    options: dict[str, Any] = {"queue": queue} if queue else {}
    stage.publish(tasks.work, "hello", **options)
    stage.show()


main = publisher(exchanges.QUEUES)(
    click.option("--queue", help="The queue to send to; without it Celery's default queue.")(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.default")
