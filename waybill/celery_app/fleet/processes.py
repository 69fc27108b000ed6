"""Descriptions of processes on one host: Procfiles, supervisor's programs, systemd's units."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from waybill.celery_app.fleet.documents import read_text
from waybill.celery_app.fleet.services import Service
from waybill.celery_app.fleet.variables import read_env_file
from waybill.errors import InputError

# A word of an `environment=` line of supervisor: NAME="value" or NAME=value, between commas.
ASSIGNMENT = re.compile(r'([A-Za-z_]\w*)=("[^"]*"|\'[^\']*\'|[^,]*)')


def procfile_services(text: str, path: Path) -> Iterator[Service]:
    """The lines of a Procfile: a name and a shell's script, with the variables of `.env` beside it."""
    variables = _variables(path.parent / ".env")
    for line in text.splitlines():
        name, colon, script = line.partition(":")
        if colon and line.strip() and not line.lstrip().startswith("#"):
            yield Service(
                name.strip(),
                script=script.strip(),
                environment=variables,
                folder=path.parent,
                has_own_host=False,
                source=str(path),
            )


def supervisor_services(text: str, path: Path) -> Iterator[Service]:
    """The programs of a supervisor configuration.

    Raises:
        InputError: it isn't one.
    """
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";",))
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise InputError(f"{path}: not a supervisor configuration: {str(error).splitlines()[0]}") from error
    common = _assignments(parser.get("supervisord", "environment", fallback=""))
    for section in parser.sections():
        kind, colon, name = section.partition(":")
        if kind != "program" or not colon:
            continue
        own = parser[section]
        command = own.get("command", "").replace("%(program_name)s", name).replace("%%", "%")
        copies = own.get("numprocs", "1").strip()
        yield Service(
            name,
            tuple(_words(command)),
            environment={**common, **_assignments(own.get("environment", ""))},
            folder=path.parent,
            has_own_host=False,
            copies=int(copies) if copies.isdecimal() else 1,
            source=str(path),
        )


def unit_services(text: str, path: Path) -> Iterator[Service]:
    """The command of a systemd unit, `ExecStart`, with its environment."""
    environment: dict[str, str] = {}
    commands: list[str] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        name, _, value = line.strip().partition("=")
        if name == "Environment":
            environment |= _pairs(value)
        elif name == "EnvironmentFile":
            environment |= _variables(_near(value.strip().removeprefix("-"), path.parent))
        elif name == "ExecStart":
            commands = [*commands, value.strip().lstrip("@-:+!")] if value.strip() else []
    for command in commands:
        # systemd resolves $NAME and ${NAME}, %i is the instance, and `%%` a percent sign.
        script = command.replace("%%", "%")
        yield Service(
            path.stem, script=script, environment=environment, folder=path.parent, has_own_host=False, source=str(path)
        )


def _near(file: str, folder: Path) -> Path:
    """An environment file, which the unit names by its place on the host: the one of that name beside the unit."""
    return next((path for path in (folder / Path(file).name, Path(file)) if path.is_file()), folder / Path(file).name)


def _variables(path: Path) -> dict[str, str]:
    try:
        return read_env_file(read_text(path)) if path.is_file() else {}
    except InputError:
        return {}


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _assignments(given: str) -> Mapping[str, str]:
    return {name: value.strip("\"'").replace("%%", "%") for name, value in ASSIGNMENT.findall(given)}


def _pairs(given: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in _words(given))
    return {name: value for name, is_set, value in pairs if is_set}
