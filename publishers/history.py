"""An exchange that keeps its last message: python -m publishers.history 99 101 100"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from exchanges import plugins
from publishers.support.lesson import lesson
from publishers.support.stage import Stage
from waybill.topology import Binding
from worker import tasks


@contextmanager
def bound_late(stage: Stage, _values: Sequence[str]) -> Iterator[None]:
    """The queue `price_board` is not bound while prices are published, and bound after the last one."""
    stage.say("price_board is bound only after the last price:")
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
    stage.expect_late(plugins.price_board)


@lesson(
    (plugins.price_log, plugins.price_board),
    "PRICE",
    default=("99", "101", "100"),
    needs=[plugins.prices],
    shows_value=True,
    around=bound_late,
)
def publish(price: str) -> None:
    """Publish each PRICE. The queue `price_log` gets all of them; `price_board` comes later and gets the last one."""
    tasks.work.apply_async(
        (price,),
        exchange="prices",
        exchange_type="x-recent-history",
        mandatory=True,
    )


if __name__ == "__main__":
    publish.run()
