"""To an exchange with an alternate exchange: python -m publishers.alternate card bitcoin"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import alternate
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from worker import tasks


def lesson(stage: Stage, keys: Sequence[str] = ()) -> None:
    """Publish a payment with each routing KEY: card has a queue, everything else goes to the alternate exchange.

    Without a KEY: card bitcoin.
    """
    for key in keys or ("card", "bitcoin"):
        stage.publish(tasks.work, key, exchange=alternate.payments, routing_key=key)
    stage.show()


def _keys(_ctx: click.Context, _argument: click.Parameter, keys: tuple[str, ...]) -> tuple[str, ...]:
    if "" in keys:
        raise click.BadParameter("an empty KEY: at a direct exchange Celery takes it for the default queue")
    return keys


main = publisher(alternate.QUEUES)(click.argument("keys", metavar="[KEY]...", nargs=-1, callback=_keys)(lesson))

if __name__ == "__main__":
    run(main, name="python -m publishers.alternate")
