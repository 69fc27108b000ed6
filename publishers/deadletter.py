"""To a queue with a dead-letter exchange: python -m publishers.deadletter in-stock sold-out

And the dead letters that nobody consumes: python -m publishers.deadletter list|inspect|requeue, which is
dead_letter_commands.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import deadletter
from publishers.dead_letter_commands import inspect, list_, requeue
from publishers.stage import Stage, publisher
from waybill.cli.running import run
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


orders_command = publisher(deadletter.QUEUES)(
    click.argument("orders", metavar="[ORDER]...", nargs=-1, type=click.Choice(ORDERS))(lesson)
)


class Commands(click.Group):
    """Commands by their names; what names none of them is the lesson's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = [word for word in args if word in self.commands][:1]
        if not named and "--help" not in args:
            named = ["lesson"]
        elif named:
            args.remove(named[0])
        return super().parse_args(ctx, [*named, *args])


@click.group(cls=Commands, subcommand_metavar="[ORDER]... | COMMAND")
def main() -> None:
    """Publish an ORDER, in-stock or sold-out, and show where it went; or look after the dead letters in `parked`.

    All of them take --broker, and --json for one JSON object on each line.
    """


for name, command in {"lesson": orders_command, "list": list_, "inspect": inspect, "requeue": requeue}.items():
    main.add_command(command, name)

if __name__ == "__main__":
    run(main, name="python -m publishers.deadletter")
