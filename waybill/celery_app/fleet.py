"""Which worker consumes which queues, read from where the fleet is described.

Two descriptions are understood: the services of a `docker-compose.yml` and the lines of a `Procfile`. Each gives names
and commands; a command that runs `celery ... worker` is a worker, and Celery's own option parser reads it. A service's
command stands behind its entrypoint, and what `sh -c` gets is read as the shell would, save for variables. A service
with `profiles` belongs to the fleet when one of them is asked for, as for `docker compose --profile`. Nothing is
started here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import yaml

from waybill.celery_app.names import BROADCAST_PREFIX
from waybill.errors import InputError, UnknownName

# What ends a command in a shell's script.
SHELL_OPERATORS = "();<>|&\n"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker of the fleet, as described.

    Attributes:
        service: the name of its service or Procfile line.
        node_name: what `-n` says, such as `videos@%h`; `celery@%h` where it says nothing.
        queues: what `-Q` says, in that order.
        arguments: the command behind the word `celery`.
        module: what Python runs with them (`python -m celery`).
    """

    service: str
    node_name: str
    queues: tuple[str, ...]
    arguments: tuple[str, ...]
    module: str = "celery"

    @property
    def name(self) -> str:
        """The node name without its host."""
        return self.node_name.partition("@")[0]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers, in the order of their description."""

    workers: tuple[Worker, ...]

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers)

    def consuming(self, queues: Iterable[str]) -> Fleet:
        """The workers that consume at least one of these queues."""
        wanted = set(queues)
        return Fleet(tuple(worker for worker in self.workers if wanted & set(worker.queues)))

    def consumers(self, queue: str) -> tuple[str, ...]:
        """The names of the workers that consume this queue; that of a Broadcast is known by its alias in `-Q`."""
        return tuple(worker.name for worker in self.consuming({queue, queue.removeprefix(BROADCAST_PREFIX)}))

    def without(self, queues: Iterable[str]) -> Fleet:
        """The workers that consume none of these queues."""
        unwanted = set(queues)
        return Fleet(tuple(worker for worker in self.workers if not unwanted & set(worker.queues)))

    def named(self, names: Iterable[str]) -> Fleet:
        """The workers of these names.

        Raises:
            UnknownName: a name that no worker has.
        """
        wanted = set(names)
        known = [worker.name for worker in self.workers]
        for name in sorted(wanted.difference(known)):
            raise UnknownName("worker", name, known, "the fleet")
        return Fleet(tuple(worker for worker in self.workers if worker.name in wanted))


def read_fleet(
    path: Path, profiles: Iterable[str] = (), *, all_queues: Iterable[str] = (), allow_twins: bool = False
) -> Fleet:
    """Read a `docker-compose.yml` or a `Procfile`.

    Args:
        profiles: those of the compose file whose services belong to the fleet too.
        all_queues: what a worker without `-Q` consumes, as the application says; without it there may be none.
        allow_twins: two workers may have one node name.

    Raises:
        InputError: the file can't be read or parsed, a worker has no `-Q`, options that Celery doesn't know or a
            variable in a name, a service runs two workers, or two workers have one node name. What the file is, its
            name says: one that begins with `Procfile` is such, any other a compose file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    commands = _procfile(text) if is_procfile(path) else _compose(text, str(path), set(profiles))
    consumed = tuple(all_queues)
    workers = tuple(
        worker for service, found in commands.items() if (worker := _worker(service, found, str(path), consumed))
    )
    if not workers:
        raise InputError(f"{path}: no service runs `celery ... worker`")
    if not allow_twins:
        _refuse_twins(workers, str(path))
    return Fleet(workers)


def is_procfile(path: Path) -> bool:
    """Whether the file is read as a `Procfile`, whose processes run on one host."""
    return path.name.startswith("Procfile")


def _compose(text: str, where: str, profiles: Set[str]) -> dict[str, list[list[str]]]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    services = document.get("services") if isinstance(document, Mapping) else None
    if not isinstance(services, Mapping):
        raise InputError(
            f"{where}: expected a mapping `services`, as in a compose file, got {type(services).__name__} "
            "(a Procfile is known by its name)"
        )
    commands = {}
    for name, service in services.items():
        if isinstance(service, Mapping) and _is_wanted(service.get("profiles"), profiles):
            at = f"{where}: service {name!r}"
            words = _words(service.get("entrypoint"), at) + _words(service.get("command"), at)
            commands[str(name)] = _unwrapped(words, at)
    return commands


def _is_wanted(own: Any, profiles: Set[str]) -> bool:
    """Whether compose would start a service with these profiles of its own: always without any."""
    return not own or (isinstance(own, list) and not profiles.isdisjoint(map(str, own)))


def _procfile(text: str) -> dict[str, list[list[str]]]:
    lines = [line.partition(":") for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    commands = {}
    for name, _, script in lines:
        at = f"Procfile line {name.strip()!r}"
        commands[name.strip()] = [command for words in _scripted(script, at) for command in _unwrapped(words, at)]
    return commands


def _words(command: Any, where: str) -> list[str]:
    """A command as words; compose allows one string or a list."""
    if command is None:
        return []
    if isinstance(command, list):
        return [str(word) for word in command]
    try:
        return shlex.split(str(command))
    except ValueError as error:
        raise InputError(f"{where}: the command cannot be split into words: {error}") from error


def _unwrapped(words: list[str], where: str) -> list[list[str]]:
    """The command, or the commands of the script that it hands to a shell: `bash -lc 'exec celery ...'`."""
    for option, script in pairwise(words):
        if re.fullmatch(r"-\w*c", option) and re.search(r"celery\s(?s:.*)worker", script):
            return _scripted(script, where)
    return [words]


def _scripted(script: str, where: str) -> list[list[str]]:
    """A shell's script as its commands, each as words; variables stay as they are."""
    # A line that goes on, and the number before a redirection, are no words.
    script = re.sub(r"\\\n|(?<=\s)\d(?=[<>])", " ", script)
    lexer = shlex.shlex(script, posix=True, punctuation_chars=SHELL_OPERATORS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    commands: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word and set(word) <= set(SHELL_OPERATORS):
                commands.append([])
            else:
                commands[-1].append(word)
    except ValueError as error:
        raise InputError(f"{where}: the command cannot be split into words: {error}") from error
    return [command for command in commands if command]


def _worker(service: str, commands: list[list[str]], where: str, all_queues: tuple[str, ...]) -> Worker | None:
    """The worker that these commands start, None when they start something else."""
    found = [worker for command in commands if (worker := _started(service, command, where, all_queues))]
    if len(found) > 1:
        raise InputError(f"{where}: service {service!r} runs {len(found)} workers; expected a service for each")
    return found[0] if found else None


def _started(service: str, command: list[str], where: str, all_queues: tuple[str, ...]) -> Worker | None:
    # Celery loads `waybill` as one of its commands, so its command line may be only half loaded when we are.
    from celery.bin.celery import celery as celery_command
    from celery.bin.worker import worker as worker_command

    # The first `celery` may be a user: `gosu celery celery -A proj worker`.
    for at in [index for index, word in enumerate(command) if Path(word).name == "celery"]:
        arguments = command[at + 1 :]
        try:
            # The group's own options (`-A`) come first; what follows them begins with the subcommand.
            _, rest, _ = celery_command.make_parser(click.Context(celery_command)).parse_args(list(arguments))
            if not rest or rest[0] != "worker":
                continue
            options, _, _ = worker_command.make_parser(click.Context(worker_command)).parse_args(rest[1:])
            break
        except click.UsageError as error:
            raise InputError(f"{where}: service {service!r}: {error.format_message()}") from error
    else:
        return None
    queues = tuple(queue.strip() for queue in (options.get("queues") or "").split(",") if queue.strip()) or all_queues
    if not queues:
        raise InputError(
            f"{where}: service {service!r} runs a worker without `-Q`: it would consume every queue of the app; "
            "expected `-Q queue[,queue ...]`"
        )
    node_name = options.get("hostname") or "celery@%h"
    if "@" not in node_name:  # Celery takes the whole for the host
        node_name = f"celery@{node_name}"
    for name in (node_name, *queues):
        if "$" in name:
            raise InputError(
                f"{where}: service {service!r}: {name!r} holds a variable, and variables aren't resolved here; "
                "expected the name itself"
            )
    return Worker(service, node_name, queues, tuple(arguments))


def _refuse_twins(workers: Iterable[Worker], where: str) -> None:
    services: dict[str, str] = {}
    for worker in workers:
        if worker.node_name in services:
            raise InputError(
                f"{where}: services {services[worker.node_name]!r} and {worker.service!r} both run "
                f"`-n {worker.node_name}`; expected a node name for each"
            )
        services[worker.node_name] = worker.service
