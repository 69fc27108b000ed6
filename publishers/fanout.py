"""Through the fanout exchanges: python -m publishers.fanout signups announcements"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import fanout
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from worker import tasks

EXCHANGES = {exchange.name: exchange for exchange in fanout.EXCHANGES}


def lesson(stage: Stage, names: Sequence[str] = ()) -> None:
    """Publish to each EXCHANGE: signups has two named queues, announcements a queue for every worker.

    Without an EXCHANGE: to both.
    """
    for name in names or EXCHANGES:
        task = tasks.announce if name == fanout.announcements.name else tasks.work
        stage.publish(task, "hello", exchange=EXCHANGES[name], routing_key="ignored")
    stage.show()


main = publisher(fanout.QUEUES)(
    click.argument("names", metavar="[EXCHANGE]...", nargs=-1, type=click.Choice(list(EXCHANGES)))(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.fanout")
