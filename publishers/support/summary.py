"""How the demo and the tour end: what came of it, and what to do next."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from waybill.cli.terminal import out


@dataclass
class Tally:
    """What the lessons of a stage showed.

    Attributes:
        messages: how many, each with who received it.
        predicted: those that went as the routing engine had said.
        returned: those of them of which it had said that no queue would take them.
        statements: what was shown beside messages.
    """

    messages: int = 0
    predicted: int = 0
    returned: int = 0
    statements: int = 0


def show_summary(lessons: int, tally: Tally, seconds: float) -> None:
    """Three lines at most: how much there was, and whether it was as predicted."""
    out.print(f"\n[bold]summary[/bold] · {lessons} lesson{'s' * (lessons != 1)} in {seconds:.1f} s")
    returned = f"; {tally.returned} message{'s' * (tally.returned != 1)} returned, as predicted" * (tally.returned > 0)
    if tally.messages:
        out.print(f"  messages: {tally.messages}, as predicted: {tally.predicted}{returned}")
    if tally.statements:
        out.print(f"  other results: {tally.statements}")


def show_next_steps(is_all: bool) -> None:
    """Three commands that can be copied."""
    python, waybill = (shlex.quote(_near(Path(sys.executable).with_name(name))) for name in ("python", "waybill"))
    more = (
        ("make demo BROKER=docker", "the exchanges again, on RabbitMQ in a container")
        if is_all
        else ("make tour", "every lesson: results, canvas, rate limits, reliability")
    )
    steps = (
        more,
        (f"{python} -m publishers.topic usa.sports norway.weather", "one lesson, with routing keys of your own"),
        (
            f"{waybill} -A worker explain worker.tasks.report --exchange news --routing-key norway.weather",
            "why a message goes where it goes, before it is published",
        ),
    )
    out.print("\n[bold]next steps[/bold]")
    for command, what in steps:
        out.print(f"  {escape(command)}\n      [dim]{what}[/dim]")


def _near(program: Path) -> str:
    """The program as it can be called from here: by its path in this folder's environment, else by its name."""
    try:
        return str(program.relative_to(Path.cwd()))
    except ValueError:
        return program.name
