"""An exchange with an alternate exchange: python -m publishers.alternate card bitcoin"""

from __future__ import annotations

import click

from exchanges import alternate
from publishers.support.lesson import lesson
from worker import tasks


def not_empty(_ctx: click.Context, _argument: click.Parameter, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Celery takes an empty key at a direct exchange for the default queue's."""
    if "" in keys:
        raise click.BadParameter("an empty KEY: at a direct exchange Celery takes it for the default queue")
    return keys


@lesson(
    alternate.QUEUES,
    "KEY",
    default=("card", "bitcoin"),
    argument=click.argument("values", metavar="[KEY]...", nargs=-1, callback=not_empty),
)
def publish(key: str) -> None:
    """Publish a payment with each routing KEY: card has a queue, everything else goes to the alternate exchange."""
    tasks.work.apply_async(
        (key,),
        exchange="payments",
        exchange_type="direct",
        routing_key=key,
        mandatory=True,
    )


if __name__ == "__main__":
    publish.run()
