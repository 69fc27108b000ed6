"""To an exchange that keeps its last message: python -m publishers.history 99 101 100"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from exchanges import plugins
from publishers.stage import Stage, publisher
from waybill.terminal import run
from worker import tasks
from worker.app import app


def lesson(stage: Stage, values: Sequence[str] = ()) -> None:
    """Publish each PRICE while `price_board` is not bound, then bind it: it gets the last one at once.

    Without a PRICE: 99 101 100. The queue `price_log` was bound all the time and gets all of them.
    """
    if stage.lacks(plugins.prices):
        return
    stage.say("price_board is bound only after the last price:")
    with coming_late():
        for value in values or ("99", "101", "100"):
            stage.publish(tasks.work, value, exchange=plugins.prices, label=value)
    stage.show()


@contextmanager
def coming_late() -> Iterator[None]:
    """The queue `price_board` is not bound for the length of the block."""
    with app.connection_for_write() as connection, connection.channel() as channel:
        board = plugins.price_board(channel)
        board.unbind_from(plugins.prices, routing_key=board.routing_key)
        try:
            yield
        finally:
            board.bind_to(plugins.prices, routing_key=board.routing_key)


main = publisher((plugins.price_log, plugins.price_board))(
    click.argument("values", metavar="[PRICE]...", nargs=-1)(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.history")
