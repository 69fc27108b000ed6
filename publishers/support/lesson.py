"""The program around a lesson about exchanges.

The lesson itself is a function that publishes one message with Celery, so that its call can be copied:

    @lesson(topic.QUEUES, "KEY", default=("usa.news", "norway.weather"))
    def publish(key: str) -> None:
        tasks.report.apply_async(...)

The program calls it for each of its arguments, listens to Celery's publish signals and to what the broker returns, and
prints who received what. It adds no option to the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click
from kombu import Exchange, Queue

from publishers.support.program import publisher
from publishers.support.stage import Stage
from waybill.cli.running import run
from waybill.testing.delivery import Delivery

Around = Callable[[Stage, Sequence[Any]], AbstractContextManager[object]]


class Lesson:
    """A function that publishes one message, as a program and as a part of the tour.

    Args:
        publish: publishes one message, given one of the values.
        queues: those that the messages may reach.
        default: the values without arguments.
        needs: the exchanges whose types the broker may lack; then the lesson is skipped.
        shows_value: show the value in place of the routing key.
        around: what surrounds all publications, given the values: a pause, a queue that comes late.
        order: a sort key for the lines; without it in the order of publishing.
    """

    def __init__(
        self,
        publish: Callable[..., None],
        queues: Sequence[Queue],
        default: Sequence[Any],
        needs: Sequence[Exchange],
        shows_value: bool,
        around: Around,
        order: Callable[[Delivery], Any] | None,
    ) -> None:
        self.publish = publish
        self.queues = tuple(queues)
        self.__module__ = publish.__module__
        self.__doc__ = publish.__doc__
        self._default = tuple(default)
        self._needs = tuple(needs)
        self._shows_value = shows_value
        self._around = around
        self._order = order
        self.command = click.Command(None)

    def __call__(self, stage: Stage, values: Sequence[Any] = ()) -> tuple[Delivery, ...]:
        """Publish a message for each value, show who received it, and return that; nothing where it is skipped."""
        if any(stage.lacks(exchange) for exchange in self._needs):
            return ()
        values = values or self._default
        with self._around(stage, values):
            for value in values:
                with stage.recording(str(value) if self._shows_value else ""):
                    self.publish(value)
        return stage.show(self._order)

    def run(self) -> None:
        """Be the program `python -m publishers.NAME`."""
        run(self.command, name=f"python -m publishers.{self.name}")

    @property
    def name(self) -> str:
        """As `python -m publishers NAME` takes it."""
        return self.command.name or ""


def lesson(
    queues: Sequence[Queue],
    metavar: str,
    default: Sequence[Any],
    *,
    needs: Sequence[Exchange] = (),
    kind: click.ParamType[Any] | None = None,
    argument: Callable[..., Any] | None = None,
    shows_value: bool = False,
    around: Around = lambda _stage, _values: nullcontext(),
    order: Callable[[Delivery], Any] | None = None,
) -> Callable[[Callable[..., None]], Lesson]:
    """Make a lesson of a function that publishes one message: see `Lesson`.

    Args:
        metavar: what a value is called in the help.
        kind: what a value has to be; text without it.
        argument: another way to give the values than as arguments.
    """
    argument = argument or click.argument("values", metavar=f"[{metavar}]...", nargs=-1, type=kind)

    def decorate(publish: Callable[..., None]) -> Lesson:
        made = Lesson(publish, queues, default, needs, shows_value, around, order)

        def play(stage: Stage, values: Sequence[Any] = ()) -> None:
            made(stage, values)

        play.__doc__ = publish.__doc__
        made.command = publisher(queues)(argument(play))
        made.command.name = name_of(publish)
        return made

    return decorate


def name_of(publish: Callable[..., None]) -> str:
    """The lesson's name: that of its file, also where that is the program."""
    return publish.__code__.co_filename.rpartition("/")[2].removesuffix(".py")
