"""A queue with a dead-letter exchange: python -m publishers.deadletter in-stock sold-out

And the dead letters that nobody consumes: python -m publishers.deadletter list|inspect|requeue, which is
dead_letter_commands.py.
"""

from __future__ import annotations

import click

from exchanges import deadletter
from publishers.support.dead_letter_commands import inspect, list_, requeue
from publishers.support.lesson import lesson
from waybill.cli.running import run
from worker import tasks

ORDERS = ("in-stock", "sold-out")


@lesson(deadletter.QUEUES, "ORDER", default=ORDERS, kind=click.Choice(ORDERS), shows_value=True)
def publish(order: str) -> None:
    """Publish an ORDER, in-stock or sold-out. The task rejects the latter, and the queue `orders_dead` gets it."""
    tasks.fulfil.apply_async(
        (order, order == "in-stock"),
        exchange="orders",
        exchange_type="direct",
        routing_key="order",
        mandatory=True,
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


for name, command in {"lesson": publish.command, "list": list_, "inspect": inspect, "requeue": requeue}.items():
    main.add_command(command, name)

if __name__ == "__main__":
    run(main, name="python -m publishers.deadletter")
