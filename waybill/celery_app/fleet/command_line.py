"""Celery's command line, read by the installed Celery's own option parsers; what they decide, its own code decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from celery import Celery
from celery.apps import multi
from celery.apps.multi import MultiParser, NamespacedOptionParser
from celery.utils.nodenames import worker_direct
from celery.utils.text import str_to_list

from waybill.celery_app.fleet.scripts import Command
from waybill.celery_app.fleet.services import CannotRead
from waybill.celery_app.private import replaced

# Celery's programs take options from the environment too: `celery(auto_envvar_prefix="CELERY")`.
APP_VARIABLE, WORKER_VARIABLES = "CELERY_APP", "CELERY_WORKER_"

# What `celery multi` does that starts workers.
STARTS = frozenset({"start", "restart", "expand", "show", "get", "names"})


@dataclass(frozen=True, slots=True)
class Start:
    """What one command starts.

    Attributes:
        arguments: behind the word `celery`, as they would be typed for this worker alone.
        options: of `celery worker`, by their parameters' names, as text.
        app: what `-A` says.
    """

    arguments: tuple[str, ...]
    options: Mapping[str, Any]
    app: str | None

    def number(self, name: str) -> int | None:
        """An option that is a whole number; None where it isn't given, or none."""
        try:
            return int(self.options[name])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def concurrency(self) -> int | None:
        """The most processes that it has: the first number of `--autoscale`, or `-c`."""
        largest = str(self.options.get("autoscale") or "").partition(",")[0]
        return int(largest) if largest.isdecimal() else self.number("concurrency")

    @property
    def node_name(self) -> str:
        """What `-n` says, completed as Celery does: without an `@` it is the host."""
        given = str(self.options.get("hostname") or "celery@%h")
        return given if "@" in given else f"celery@{given}"


def starts_of(command: Command) -> list[Start]:
    """The workers that a command starts: none where it isn't Celery's.

    Raises:
        CannotRead: options that Celery doesn't know.
    """
    # The first `celery` may be a user: `gosu celery celery -A proj worker`. And it may be behind `python -m`.
    for at in [index for index, word in enumerate(command.words) if Path(word).name in ("celery", "celery.exe")]:
        try:
            found = list(_starts(command.words[at + 1 :], command.environment))
        except click.UsageError as error:
            raise CannotRead(f"celery: {error.format_message()}") from error
        if found:
            return found
    return []


def _starts(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[Start]:
    # Celery loads `waybill` as one of its commands, so its command line may be only half loaded when we are.
    from celery.bin.celery import celery as celery_command

    # The group's own options (`-A`) come first; what follows them begins with the subcommand.
    group, rest, _ = _parser(celery_command).parse_args(list(arguments))
    app = group.get("app") or environment.get(APP_VARIABLE)
    if rest[:1] == ["worker"]:
        yield Start(tuple(arguments), _worker_options(rest[1:], environment), app)
    elif rest[:1] == ["multi"] and set(rest[1:2]) <= STARTS and rest[1:2]:
        yield from _multi(rest[2:], app, environment)


def _worker_options(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    from celery.bin.worker import worker as worker_command

    options, rest, _ = _parser(worker_command).parse_args(list(arguments))
    if rest:
        raise click.UsageError(f"Got unexpected extra argument ({' '.join(map(str, rest))})")
    for parameter in worker_command.params:
        name = str(parameter.name)
        variable = f"{WORKER_VARIABLES}{name.upper()}"
        if options.get(name) is None and environment.get(variable):
            options[name] = environment[variable]
    return dict(options)


def _parser(command: click.Command) -> Any:
    return command.make_parser(click.Context(command))


@dataclass(frozen=True, slots=True)
class _Node:
    """A worker of `celery multi`: Celery's own class makes folders for logs and process ids as it is made."""

    name: str
    cmd: str
    append: str
    options: Mapping[str, Any]
    extra_args: str


class _Parser(MultiParser):
    Node = _Node


def _multi(arguments: Sequence[str], app: str | None, environment: Mapping[str, str]) -> Iterator[Start]:
    from celery.apps.multi import format_opt

    given = NamespacedOptionParser(list(arguments))
    given.parse()
    try:
        with replaced(vars(multi), {"Node": _Node}):  # Celery 5.3 looks for it there, later ones in the parser
            nodes = list(_Parser().parse(given))
    except KeyError as error:
        raise CannotRead(f"celery multi: {error.args[0]}") from error
    for node in nodes:
        options = {name: value for name, value in node.options.items() if name not in MULTI_OPTIONS}
        own = options.pop("-A", None) or options.pop("--app", None) or app
        words = [word for name, value in options.items() for word in format_opt(name, value).split(" ", 1)]
        words += ["-n", node.name]
        yield Start((*(("-A", own) if own else ()), "worker", *words), _worker_options(words, environment), own)


# Of `celery multi`, not of the worker.
MULTI_OPTIONS = frozenset({"--executable", "--verbosity", "--nosplash", "--quiet", "--no-color", "-n", "--hostname"})


def consumed(app: Celery | None, selected: object, excluded: object, node_name: str) -> tuple[str, ...]:
    """The queues that a worker consumes, as Celery's worker selects them (celery/worker, `setup_queues`).

    Args:
        app: whose queues; without it only what `-Q` says is known.
        selected, excluded: what `-Q` and `-X` say, split as Celery splits them: at commas, and blanks count.
        node_name: with `worker_direct` each worker has a queue of its own, named after it.
    """
    wanted, unwanted = _listed(selected), _listed(excluded)
    if app is None:
        return tuple(name for name in wanted if name not in set(unwanted))
    # Celery's own object, so that no selection of ours stays on the application's.
    queues = app.amqp.Queues(app.amqp.queues, create_missing=True)
    queues.select(wanted)
    queues.deselect(unwanted)
    if app.conf.worker_direct:
        queues.select_add(worker_direct(node_name))
    return tuple(queue.alias or name for name, queue in queues.consume_from.items())


def _listed(given: object) -> list[str]:
    found: Iterable[str] = str_to_list(given) or ()
    return list(found)
