"""To an exchange that feeds another exchange: python -m publishers.forward shop.paid"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import forward
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from worker import tasks


def lesson(stage: Stage, keys: Sequence[str] = ()) -> None:
    """Publish an event of the shop with each routing KEY: the exchange `billing` is bound to shop.paid.

    Without a KEY: shop.paid shop.returned.
    """
    for key in keys or ("shop.paid", "shop.returned"):
        stage.publish(tasks.work, key, exchange=forward.shop, routing_key=key)
    stage.show()


main = publisher(forward.QUEUES)(click.argument("keys", metavar="[KEY]...", nargs=-1)(lesson))

if __name__ == "__main__":
    run(main, name="python -m publishers.forward")
