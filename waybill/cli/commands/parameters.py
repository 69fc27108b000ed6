"""Options that several commands take, with one wording for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

FILE = click.Path(dir_okay=False, path_type=Path)

json_option = click.option("--json", "is_json", is_flag=True, help="Print the answer as one JSON object.")
vhost_option = click.option("--vhost", metavar="NAME", help="The vhost, if it isn't that of the application's broker.")


def management_option(help_: str, *, is_required: bool = False) -> Decorator:
    """`--management`, or its variable; what the command uses it for comes first in the help."""
    return click.option(
        "--management",
        metavar="URL",
        envvar="WAYBILL_MANAGEMENT_URL",
        show_envvar=True,
        required=is_required,
        help=f"{help_}, such as http://user:password@host:15672.",
    )


def fleet_options(command: Command) -> Command:
    """Where the workers are described: `fleet`, `without_fleet`, and `ignored`."""
    for option in (
        click.option("--no-fleet", "without_fleet", is_flag=True, help="Ignore the fleet that pyproject.toml names."),
        click.option(
            "--ignore-service", "ignored", multiple=True, metavar="NAME", help="Leave this service of the fleet out."
        ),
        click.option(
            "--fleet",
            multiple=True,
            type=click.Path(path_type=Path),
            help="The workers: compose files, a Procfile, Kubernetes, supervisor or systemd files, a folder of them.",
        ),
    ):
        command = option(command)
    return command


def message_options(command: Command) -> Command:
    """The options of a message, the same for `route` and `explain`."""
    for option in (
        json_option,
        click.option("--priority", type=click.IntRange(0, 255), help="The message's priority."),
        click.option(
            "--header",
            "headers",
            multiple=True,
            metavar="NAME=TEXT",
            callback=named_values,
            help="A header, or NAME:=JSON for another type. May be repeated.",
        ),
        click.option("--routing-key", metavar="KEY", help="The routing key."),
        click.option("--exchange", metavar="NAME", help="The exchange to publish to."),
    ):
        command = option(command)
    return command


def named_values(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """`k=v` is text, `k:=v` is JSON: a headers exchange tells 1 from "1"."""
    headers: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.removesuffix(":"):
            raise click.BadParameter(f"{value!r}: expected name=text, or name:=JSON for another type")
        try:
            headers[name.removesuffix(":")] = json.loads(text) if name.endswith(":") else text
        except (ValueError, RecursionError) as error:
            raise click.BadParameter(f"{value!r}: not JSON behind `:=`: {error}") from error
    return headers
