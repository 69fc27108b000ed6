"""To a consistent-hash exchange: python -m publishers.shards customer.1 customer.2 customer.1"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import plugins
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from worker import tasks

KEYS = tuple(f"customer.{number}" for number in (1, 2, 3, 4, 1, 2, 3, 4))


def lesson(stage: Stage, keys: Sequence[str] = ()) -> None:
    """Publish a task with each routing KEY: the same key always goes to the same queue.

    Without a KEY: customer.1 to customer.4, twice.
    """
    if stage.lacks(plugins.shards):
        return
    for key in keys or KEYS:
        stage.publish(tasks.work, key, exchange=plugins.shards, routing_key=key)
    stage.show()


main = publisher([queue for queue in plugins.QUEUES if queue.exchange == plugins.shards])(
    click.argument("keys", metavar="[KEY]...", nargs=-1)(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.shards")
