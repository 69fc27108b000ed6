"""What every command does alike at the terminal: one line for an error, and the right exit code.

Results go to standard output, all else to standard error, so that `--json` can be piped.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click
from amqp.exceptions import AMQPError
from kombu.exceptions import OperationalError
from rich.console import Console

from waybill.errors import EXIT_FAILED, WaybillError
from waybill.render import NO, YES, Node, tree

# What a shell reports for a program that ended by Ctrl-C: 128 + SIGINT.
EXIT_INTERRUPTED = 130

out = Console(soft_wrap=True, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def complain(text: str) -> None:
    """One line on standard error that says what went wrong."""
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
    with _ended_by(signal.SIGTERM, signal.SIGHUP):
        sys.exit(_code(command, arguments, name))


@contextmanager
def _ended_by(*numbers: int) -> Iterator[None]:
    """These signals leave the block as Ctrl-C does: the blocks within are left in order."""
    before = {number: signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    except (click.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is stopped; another Ctrl-C must not change the exit code
        complain("interrupted; everything that was started is stopped")
        code = EXIT_INTERRUPTED
    return code or 0
