"""The fanout exchanges: python -m publishers.fanout signups announcements"""

from __future__ import annotations

import click

from exchanges import fanout
from publishers.support.lesson import lesson
from worker import tasks

NAMES = tuple(exchange.name for exchange in fanout.EXCHANGES)


@lesson(fanout.QUEUES, "EXCHANGE", default=NAMES, kind=click.Choice(NAMES))
def publish(exchange: str) -> None:
    """Publish to each EXCHANGE: signups has two named queues, announcements a queue for every worker."""
    task = tasks.announce if exchange == "announcements" else tasks.work
    task.apply_async(
        ("hello",),
        exchange=exchange,
        exchange_type="fanout",
        routing_key="ignored",
        mandatory=True,
    )


if __name__ == "__main__":
    publish.run()
