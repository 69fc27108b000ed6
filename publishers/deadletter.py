"""To a queue with a dead-letter exchange: python -m publishers.deadletter in-stock sold-out"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import deadletter
from publishers.stage import Stage, publisher
from waybill.terminal import run
from worker import tasks

ORDERS = ("in-stock", "sold-out")


def lesson(stage: Stage, orders: Sequence[str] = ()) -> None:
    """Publish an ORDER, in-stock or sold-out; the task rejects the latter, and the queue `orders_dead` gets it.

    Without an ORDER: one of each.
    """
    orders = orders or ORDERS
    for order in orders:
        stage.publish(
            tasks.fulfil,
            order,
            order == "in-stock",
            exchange=deadletter.orders,
            routing_key="order",
            label=order,
        )
    for order, delivery in zip(orders, stage.show(), strict=True):
        queues = [receipt.queue for receipt in delivery.received]
        if queues:  # without workers both wait in the first queue
            stage.expect(order, queues, ["orders", "orders_dead"] if order == "sold-out" else ["orders"])


main = publisher(deadletter.QUEUES)(
    click.argument("orders", metavar="[ORDER]...", nargs=-1, type=click.Choice(ORDERS))(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.deadletter")
