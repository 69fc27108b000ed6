"""The command `waybill`: it knows its commands by name and loads one when it is invoked.

Celery loads this file in every one of its commands (`celery worker`, `celery --help`), because the entry point is a
plugin of it. It therefore imports click, which Celery has loaded already, and the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import click

# Where the values of `-A` are kept in a click context's `meta`.
APPLICATION = "waybill.celery_app.loading"

# Command -> its help in a line: the first sentence of its own help, which a test compares.
COMMANDS = {
    "explain": "Show where Celery would send TASK, and why.",
    "check": "Find routing mistakes in the application.",
    "diff": "Compare the application's declarations with the broker.",
    "declare": "Declare the application's exchanges, queues and bindings on its broker.",
    "topology": "Show all exchanges, queues and bindings that the application declares.",
    "live": "Watch where every message goes, as it goes there.",
    "route": "Show which queues a message reaches, and why.",
    "broker": "Run a broker in memory, for tests and demos on this machine.",
}


class Commands(click.Group):
    """The commands in `waybill.cli.commands`, one file each.

    Below `celery -A proj`, too, an error is one line and an exit code.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, in the order in which the help shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load the command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"waybill.cli.commands.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands' part of the help, for which none of them is loaded."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the options that stand before the command."""
        make = super().make_context
        if parent is None:
            return make(info_name, args, parent, **extra)
        made: list[click.Context] = []
        _exit_on_error(lambda: made.append(make(info_name, args, parent, **extra)))
        return made[0]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. The command `celery` drops what a command returns, so below it this exits."""
        if ctx.parent is None:
            return super().invoke(ctx)
        from waybill.cli.running import run_to_exit

        invoke = super().invoke
        return run_to_exit(lambda: invoke(ctx))


def _exit_on_error(work: Callable[[], object]) -> None:
    from waybill.cli.running import exit_code

    if code := exit_code(work):
        raise SystemExit(code)


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-A",
    "--app",
    "names",
    metavar="APP",
    multiple=True,
    help="The Celery application, as for `celery -A`. Repeat it for others of the same vhost.",
)
@click.version_option(package_name="waybill")
@click.pass_context
def waybill(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Show where every Celery task goes on RabbitMQ.

    Settings that hold for every command can be kept in pyproject.toml, in the table [tool.waybill].
    """
    ctx.meta[APPLICATION] = names
    if ctx.invoked_subcommand is None:
        from waybill.errors import EXIT_FAILED

        # Click's own way raises it as an error, which would be put into one line.
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_FAILED)


celery_command = waybill


def program(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    from waybill.cli.running import run

    run(waybill, arguments, name="waybill")
