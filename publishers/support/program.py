"""The program around a lesson, which is a function of a `Stage`.

With the URL of a broker it uses the workers that run there; without one it brings up a broker and the workers that the
lesson needs, and takes them down again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import click
from kombu import Queue

from publishers.support.opening import open_stage
from waybill.cli.status import status
from waybill.cli.terminal import print_error
from waybill.errors import EXIT_FINDINGS, EXIT_OK
from waybill.testing import brokers


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--broker` and `--json`, the same for every publisher."""
    function = click.option("--json", "is_json", is_flag=True, help="One JSON object for each message, one on a line.")(
        function
    )
    return click.option(
        "--broker",
        default=brokers.choice,
        show_default="$WAYBILL_BROKER_URL, $BROKER, or embedded",
        help="`embedded`, `docker` (a container), or the URL of a running broker, with its workers.",
    )(function)


def lesson_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--record`, and those of `broker_options`."""
    return broker_options(
        click.option(
            "--record",
            type=click.File("w", encoding="utf-8", lazy=False),
            help="Also write what --json prints to this file.",
        )(function)
    )


def publisher(needs: Sequence[Queue], needs_results: bool = False) -> Callable[[Callable[..., None]], click.Command]:
    """Make a program of a lesson: its own arguments and `lesson_options`; exit code 1 when a message was returned.

    Args:
        needs: the queues that the lesson's messages may reach.
        needs_results: the lesson reads results.
    """

    def decorate(lesson: Callable[..., None]) -> click.Command:
        @lesson_options
        @functools.wraps(lesson)
        def main(broker: str, is_json: bool, record: IO[str] | None, **arguments: Any) -> int:
            with (
                open_stage(broker, needs, is_json, needs_results=needs_results, record=record) as stage,
                status.working("publishing, and waiting for who received what"),
            ):
                lesson(stage, **arguments)
            for sent in stage.lost:
                print_error(
                    f"returned by the broker: no queue takes the routing key {sent.routing_key!r} "
                    f"at the exchange {sent.exchange!r}"
                )
            for surprise in stage.surprises:
                print_error(f"mismatch: {surprise}")
            return EXIT_FINDINGS if stage.lost or stage.surprises else EXIT_OK

        return click.command()(main)

    return decorate


def pairs(values: Sequence[str], what: str = "header") -> Mapping[str, str]:
    """`("format=pdf", ...)` as a mapping.

    Raises:
        click.BadParameter: a value has no `=` or no name before it.
    """
    for value in values:
        if not value.partition("=")[0] or "=" not in value:
            raise click.BadParameter(f"{what} {value!r}: expected name=value")
    return dict(value.split("=", 1) for value in values)
