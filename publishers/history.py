"""To an exchange that keeps its last message: python -m publishers.history 99 101 100"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from exchanges import plugins
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from waybill.topology import Binding
from worker import tasks


def lesson(stage: Stage, values: Sequence[str] = ()) -> None:
    """Publish each PRICE while `price_board` is not bound, then bind it: it gets the last one at once.

    Without a PRICE: 99 101 100. The queue `price_log` was bound all the time and gets all of them.
    """
    if stage.lacks(plugins.prices):
        return
    stage.say("price_board is bound only after the last price:")
    with coming_late(stage):
        for value in values or ("99", "101", "100"):
            last = stage.publish(tasks.work, value, exchange=plugins.prices, label=value)
    stage.expect_late(last, plugins.price_board)
    stage.show()


@contextmanager
def coming_late(stage: Stage) -> Iterator[None]:
    """The queue `price_board` is not bound for the length of the block."""
    declared = Binding(plugins.prices.name, plugins.price_board.name, plugins.price_board.routing_key)
    with stage.watch.connection.channel() as channel:
        board = plugins.price_board(channel)
        stage.router.unbind(declared)
        board.unbind_from(plugins.prices, routing_key=board.routing_key)
        try:
            yield
        finally:
            board.bind_to(plugins.prices, routing_key=board.routing_key)
            stage.router.bind(declared)


main = publisher((plugins.price_log, plugins.price_board))(
    click.argument("values", metavar="[PRICE]...", nargs=-1)(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.history")
