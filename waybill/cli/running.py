"""A command as a program: every error is one line, with the right exit code, whatever ends it.

Ctrl-C, SIGTERM and a closed terminal are the matter of `waybill.cli.ending`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import NoReturn

import click

from waybill.cli.ending import Interrupted, ending
from waybill.cli.status import status
from waybill.errors import EXIT_FAILED, WaybillError


def run(command: click.Command, arguments: Sequence[str] | None = None, name: str | None = None) -> NoReturn:
    """Run a click command as a program, and exit. `-h` shows its help, too.

    Exit codes: what the command returns, 0 without; those of `waybill.errors`; 130 after Ctrl-C, 143 and 129 after
    SIGTERM and SIGHUP.
    """
    run_to_exit(
        lambda: command.main(arguments, prog_name=name, standalone_mode=False, help_option_names=["-h", "--help"])
    )


def run_to_exit(work: Callable[[], object]) -> NoReturn:
    """Do the work, say what went wrong in one line, and exit with the code.

    A signal ends it: every block takes down what it has started.
    """
    status.clear()  # it has loaded
    if isinstance(sys.stdout, TextIOWrapper):  # what its encoding lacks is escaped, as on standard error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with ending.raise_on_signal():
            code = exit_code(work)
    except Interrupted as interrupted:
        ending.report(interrupted.number)
        ending.exit(interrupted.exit_code)
    sys.exit(code)


def exit_code(work: Callable[[], object]) -> int:
    """Do the work and say what went wrong; the exit code, which is what the work returns or else 0.

    Raises:
        Interrupted: a question was answered with Ctrl-D, or Ctrl-C came.
    """
    try:
        code = ending.call(work)
    except click.ClickException as error:
        is_misplaced = isinstance(error, click.NoSuchOption) and error.option_name in ("-A", "--app")
        hint = " It stands before the command, as in waybill -A proj check" if is_misplaced else ""
        return _failed(f"{error.format_message()}{hint}")
    except WaybillError as error:
        return _failed(str(error), error.exit_code)
    except OSError as error:
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else f"the broker: {error}")
    except _broker_errors() as error:
        return _failed(f"the broker: {error}")
    except (click.Abort, KeyboardInterrupt) as error:
        raise Interrupted(signal.SIGINT) from error
    return code if isinstance(code, int) else 0


def _failed(text: str, code: int = EXIT_FAILED) -> int:
    from waybill.cli.terminal import print_error  # it loads Rich, which a help text doesn't need

    print_error(text)
    return code


def _broker_errors() -> tuple[type[BaseException], ...]:
    """What Kombu and amqp raise: only where they are loaded can it have been raised."""
    names = (("amqp.exceptions", "AMQPError"), ("kombu.exceptions", "OperationalError"))
    return tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)
