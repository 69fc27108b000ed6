"""Who decides where a task goes: python -m tools.routing_options_page > docs/reference/routing-options.md"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import click

from publishers.support.routing_sources import (
    DECORATOR,
    DEFAULT,
    FUNCTION,
    QUEUES,
    SAYS,
    TASK,
    Case,
    between,
    ranked,
    undecided,
)
from waybill.celery_app.declared import from_celery
from waybill.celery_app.publication import message_of
from waybill.cli.running import run
from waybill.errors import EXIT_OK
from waybill.routing import Router

# What a task is told in several places at once is merged, option by option, and then Celery looks at what there is.
NEWS = {"exchange": "news", "routing_key": "usa.news"}
MERGED = (
    Case(decorator={"queue": "slow"}, routes={TASK: NEWS}),
    Case(routes={TASK: {"queue": "videos"}}, call=NEWS),
    Case(call={"queue": "cleanup", **NEWS}),
    Case(routes={TASK: {"queue": "usa_all"}}, call={"routing_key": "norway.news"}),
    Case(routes={TASK: {"queue": "videos"}}, call={"routing_key": "media.image"}),
    Case(routes={TASK: {"queue": "videos"}}, call={"exchange": "media", "routing_key": "media.image"}),
    Case(call={"exchange": "news"}),
    Case(call={"exchange": "news", "exchange_type": "topic"}),
    Case(call={"routing_key": "usa.news"}),
    Case(call={"queue": "usa_all"}),
    Case(decorator={"priority": 1}, routes={TASK: {"queue": "tasks", "priority": 5}}),
    Case(decorator={"priority": 1}, routes={TASK: {"queue": "tasks", "priority": 5}}, call={"priority": 9}),
    Case(routes={TASK: {"queue": "tasks", "priority": 5}}, call={"queue": "cleanup"}),
    Case(decorator={"queue": "slow"}, is_by_name=True),
)

# The options of the calls above: what has other keys is a mapping of routes.
OPTIONS = {"queue", "exchange", "exchange_type", "routing_key", "priority"}

# How `task_routes` is read.
ROUTES = (
    Case(routes={TASK: "videos"}),
    Case(routes={"worker.*": "videos"}),
    Case(routes={"worker.*": "videos", TASK: "tasks"}),
    Case(routes={"worker.*": "videos", "worker.tasks.*": "tasks"}),
    Case(routes=[{"worker.*": "videos"}, {TASK: "tasks"}]),
    Case(routes=[undecided, {TASK: "tasks"}]),
    Case(routes={"work": "videos"}),
    Case(routes={re.compile("worker"): "videos"}),
    Case(routes={re.compile("tasks"): "videos"}),
)


def document() -> Iterator[str]:
    """The lines of docs/reference/routing-options.md."""
    yield from INTRODUCTION.splitlines()
    yield from ("", *ranks())
    yield from ("", *deprecations())
    yield from ("", *AMONG_ROUTES.splitlines(), "", *pairs())
    yield from ("", *MERGING.splitlines(), "", *table(MERGED))
    yield from ("", *READING.splitlines(), "", *table(ROUTES))
    yield from ("", *CONSUMER.splitlines())


def ranks() -> Iterator[str]:
    """Who is heard when those before him are silent."""
    yield from ("| who speaks | what it says | published to |", "|---|---|---|")
    for who, case in ranked():
        place = f"`task_routes`, {who}" if who in (*QUEUES, FUNCTION) else who.replace(DEFAULT, code(DEFAULT))
        yield f"| {place} | {code(SAYS[who])} | {code(case.ask().routing_key)} |"


def deprecations() -> Iterator[str]:
    """What Celery says of a decorator that routes."""
    _, warned = Case(decorator={"queue": SAYS[DECORATOR]}).make()
    yield "A queue in the decorator works, and the installed Celery has this to say of it:"
    yield from ("", *(f"> {line}" for line in warned or ("nothing",)))


def pairs() -> Iterator[str]:
    """Two routes of one task: in one mapping, and as two entries of a list."""
    yield from ("| routes | in one mapping | in a list |", "|---|---|---|")
    for kinds in combinations((*QUEUES, FUNCTION), 2):
        within = "(a function stands alone)" if FUNCTION in kinds else between(kinds, is_list=False)
        yield f"| {' and '.join(kinds)} | {within} | {between(kinds, is_list=True)} |"


def table(cases: Iterable[Case]) -> Iterator[str]:
    """What is said, and what Celery publishes; the queues are the router's answer."""
    columns = ("decorator", "task_routes", "call", "exchange", "routing key", "priority", "queues")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for case in cases:
        sent = case.ask()
        reached = Router.of(from_celery(case.application())).trace(message_of(sent)).queues
        call = f"{shown(case.call)} by name, without the task" if case.is_by_name else shown(case.call)
        cells = (
            shown(case.decorator),
            shown(case.routes),
            call.strip(),
            code(sent.exchange) if sent.exchange else "(default)",
            code(sent.routing_key) if sent.routing_key else "(empty)",
            str(sent.priority or ""),
            ", ".join(map(code, reached)) or "none: unroutable",
        )
        yield f"| {' | '.join(cells)} |"


def shown(said: Any) -> str:
    """Routes or options as they are written down, short."""
    if not said:
        return ""
    if isinstance(said, Mapping) and said.keys() <= OPTIONS:
        return code(", ".join(f"{name}={value!r}" for name, value in said.items()))
    return code(written(said))


def written(said: Any) -> str:
    """As in Python, with a function by its name."""
    if isinstance(said, Mapping):
        return f"{{{', '.join(f'{written(key)}: {written(value)}' for key, value in said.items())}}}"
    if isinstance(said, list):
        return f"[{', '.join(map(written, said))}]"
    return str(getattr(said, "__name__", None) or repr(said))


def code(text: str) -> str:
    return f"`{text}`"


INTRODUCTION = f"""\
# Who decides where a task goes

Generated by `python -m tools.routing_options_page`: every answer is what the installed Celery would publish for
`{TASK}`, from an application with the showcase's queues. `python -m publishers.celery.precedence` sends the first
table to real workers.

Each names another queue, Celery is asked who is heard, that one falls silent, and so on. The entries of
`task_routes` stand in the list `[{{exact name, glob, regular expression}}, function]`."""

AMONG_ROUTES = """\
## Two entries of `task_routes` for one task

`task_routes` is a mapping, a router function, or a list of them. A mapping knows exact names, globs and regular
expressions; a function gets the task's name and returns a route or None. Each pair was asked in both orders."""

MERGING = """\
## Options merge one by one

A queue brings its exchange and its binding key, and what is said beside it is put in their place. So halves of two
answers can meet: a queue from one place and a key or a priority from another. For a queue on a direct exchange Celery
takes the default exchange and the queue's name, whatever key was given beside it. Who sends a task by its name without
having it (`send_task`) knows nothing of its decorator."""

READING = """\
## How `task_routes` is read

A string is short for a queue. `*` takes dots as well. An exact name comes before the patterns of its mapping, but in a
list the first entry that answers is taken. A regular expression has to match from the beginning of the name, and not
to its end. `undecided` is a function that returns None: the next entry is asked."""

CONSUMER = """\
## And the consumer

`-Q` says from which queues a worker takes, and changes nothing of where a task is sent: the publisher names the queue,
`-Q` names the worker. Give another worker the queue and the same call runs there. Where both ends should agree, they
share one declaration: `task_queues`, and with `task_create_missing_queues = False` a misspelt `-Q` or `queue=` is an
error."""


@click.command()
def main() -> int:
    """Print docs/reference/routing-options.md."""
    for line in document():
        click.echo(line)
    return EXIT_OK


if __name__ == "__main__":
    run(main, name="python -m tools.routing_options_page")
