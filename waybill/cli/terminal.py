"""Printing: results go to standard output, everything else to standard error, so that `--json` can be piped.

Lines for people pass `waybill.topology.text.printable` before they are printed, here or where they are made.
"""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from waybill.cli.rendering import Node, styled_lines
from waybill.cli.status import status
from waybill.topology.text import printable


class Terminal(Console):
    """A console whose lines don't run into the line that says what takes time."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich's."""
        with status.paused():
            super().print(*objects, **options)


out = Terminal(soft_wrap=True, highlight=False, emoji=False)
err = Terminal(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def echo(text: str) -> None:
    """A line on standard output as it is: JSON."""
    with status.paused():
        click.echo(text)


def print_line(text: str, style: str = "") -> None:
    """A line for people on standard output, whatever the names in it hold."""
    out.print(printable(text), style=style, markup=False)


def print_note(text: str, end: str = "\n") -> None:
    """A line for people on standard error, whatever the names in it hold."""
    err.print(printable(text), end=end, markup=False)


def print_error(text: str) -> None:
    """One line on standard error that says what went wrong."""
    with status.paused():
        err.print("error:", style="bold red", end=" ")
        err.print(printable(" ".join(text.split())), markup=False)


def print_tree(node: Node) -> None:
    """A tree on standard output, in the styles of its nodes."""
    for line, style in styled_lines(node):
        out.print(line, style=style, markup=False)
