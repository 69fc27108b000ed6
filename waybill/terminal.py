"""What every command does alike at the terminal: one line for an error, and the right exit code.

Results go to standard output, all else to standard error, so that `--json` can be piped. What takes time is said by
`waybill.status`, and Ctrl-C is `waybill.ending`'s affair.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click
from amqp.exceptions import AMQPError
from kombu.exceptions import OperationalError
from rich.console import Console

from waybill.ending import Ended, ending
from waybill.errors import EXIT_FAILED, WaybillError
from waybill.render import NO, YES, Node, tree
from waybill.status import status


class Terminal(Console):
    """A console whose lines don't run into the line that says what takes time."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich's."""
        with status.aside():
            super().print(*objects, **options)


out = Terminal(soft_wrap=True, highlight=False, emoji=False)
err = Terminal(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def echo(text: str) -> None:
    """A line on standard output as it is: JSON."""
    with status.aside():
        click.echo(text)


def complain(text: str) -> None:
    """One line on standard error that says what went wrong."""
    with status.aside():
        err.print("error:", style="bold red", end=" ")
        err.print(" ".join(text.split()), markup=False)


def show_tree(node: Node) -> None:
    """A tree on standard output; on a terminal what matched is green and what did not is dim."""
    for line in tree(node).splitlines():
        style = "green" if YES in line else "dim" if NO in line else ""
        out.print(line, style=style, markup=False)


def run(command: click.Command, arguments: Sequence[str] | None = None, name: str | None = None) -> NoReturn:
    """Run a click command as a program: whatever goes wrong is one line and an exit code.

    Whoever ends it, by Ctrl-C, SIGTERM or by closing the terminal, it takes down what it started.

    Exit codes: what the command returns, 0 without; those of `waybill.errors`; 130 after Ctrl-C, 143 and 129 after
    SIGTERM and SIGHUP.
    """
    status.clear()  # it has loaded
    try:
        with ending.in_order():
            code = _code(command, arguments, name)
    except Ended as ended:
        ending.say(ended.number)
        ending.exit(ended.exit_code)
    sys.exit(code)


def _code(command: click.Command, arguments: Sequence[str] | None, name: str | None) -> int:
    """Run the command and say what was wrong; the exit code."""
    try:
        code: int | None = command.main(arguments, prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        complain(error.format_message())
        code = EXIT_FAILED
    except WaybillError as error:
        complain(str(error))
        code = error.exit_code
    except (OperationalError, AMQPError, OSError) as error:
        complain(f"the broker: {error}")
        code = EXIT_FAILED
    except (click.Abort, KeyboardInterrupt) as error:  # the answer to a question was Ctrl-D
        raise Ended(signal.SIGINT) from error
    return code or 0
