"""To an exchange with an alternate exchange: python -m publishers.alternate card bitcoin"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import alternate
from publishers.stage import Stage, publisher
from waybill.terminal import run
from worker import tasks


def lesson(stage: Stage, keys: Sequence[str] = ()) -> None:
    """Publish a payment with each routing KEY: card has a queue, everything else goes to the alternate exchange.

    Without a KEY: card bitcoin.
    """
    for key in keys or ("card", "bitcoin"):
        stage.publish(tasks.work, key, exchange=alternate.payments, routing_key=key)
    stage.show()


main = publisher(alternate.QUEUES)(click.argument("keys", metavar="[KEY]...", nargs=-1)(lesson))

if __name__ == "__main__":
    run(main, name="python -m publishers.alternate")
