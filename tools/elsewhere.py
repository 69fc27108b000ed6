"""The same calls on several brokers, side by side: python -m tools.elsewhere embedded memory://

With a RabbitMQ and a Redis it makes the tables of docs/explanation/choosing.md:

    python -m tools.elsewhere docker embedded redis://127.0.0.1:6379/0 memory://
    python -m tools.elsewhere --lessons docker embedded redis://127.0.0.1:6379/0
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any
from urllib.parse import urlsplit

import click

import exchanges
from publishers import deadletter, priority
from publishers.__main__ import TOUR, play
from publishers.celery import entries, queues
from publishers.support.opening import open_stage
from tools.probes import PROBES, attempt
from waybill.cli.running import run
from waybill.errors import EXIT_OK, InputError
from waybill.testing import brokers
from waybill.testing.delivery import Delivery

MEMORY = "memory://"

# What is named, or the scheme of its URL -> how the table calls it.
TITLES = {
    brokers.EMBEDDED: "embedded",
    brokers.DOCKER: "RabbitMQ",
    "memory": MEMORY,
    **dict.fromkeys(brokers.PORTS, "RabbitMQ"),
    **dict.fromkeys(brokers.REDIS, "Redis"),
}


@click.command()
@click.option(
    "--lessons", "is_lessons", is_flag=True, help="Run every lesson on each BROKER instead, with its workers."
)
@click.option("--json", "is_json", is_flag=True, help="One object for each row, one on a line.")
@click.argument("chosen", metavar="[BROKER]...", nargs=-1)
def main(chosen: Sequence[str], is_lessons: bool, is_json: bool) -> int:
    """Try what each BROKER does with the same messages, and print a table.

    A BROKER is `embedded`, `docker` (RabbitMQ in a container), `memory://`, or the URL of a running one, on which
    nothing is left. Without any: embedded memory://.
    """
    chosen = chosen or (brokers.EMBEDDED, *([] if is_lessons else [MEMORY]))
    if is_lessons and MEMORY in chosen:
        raise InputError(f"--lessons on {MEMORY}: its queues are in one process, and the workers are others")
    columns = {broker: lessons(broker) if is_lessons else outcomes(broker) for broker in chosen}
    for line in _lines(columns, is_json):
        click.echo(line)
    return EXIT_OK


def outcomes(broker: str) -> dict[str, str]:
    """What was tried -> what came of it."""
    with _url(broker) as url:
        return {what: attempt(url, probe) for what, probe in PROBES}


def lessons(broker: str) -> dict[str, str]:
    """Lesson -> `holds`, or the mismatches, or why it was skipped."""
    silence, record = io.StringIO(), io.StringIO()
    found = {}
    with (
        redirect_stdout(silence),
        redirect_stderr(silence),
        open_stage(broker, exchanges.QUEUES, is_json=True, is_tour=True, record=record) as stage,
    ):
        for what, lesson in TOUR:
            stage.surprises.clear()
            stage.skipped.clear()
            delivered = play(lesson, stage)
            check, told = CHECKS.get(lesson.__module__), TOLD.get(lesson.__module__)
            wrong = [*(check(delivered) if check and delivered else ()), *(told(_lines_of(record)) if told else ())]
            found[what.partition(" · ")[0]] = _in_short([*stage.surprises, *wrong, *stage.skipped])
    return found


def _lines_of(record: io.StringIO) -> list[dict[str, Any]]:
    """What lessons have said since the last call, as `--json` prints it."""
    lines = [json.loads(line) for line in record.getvalue().splitlines()]
    record.seek(0)
    record.truncate()
    return [line for line in lines if "what" in line]


def served_by_priority(delivered: Sequence[Delivery]) -> Iterator[str]:
    """What the priority lesson promises beside who received what: the highest comes first."""
    served = [one.publication.priority or 0 for one in sorted(delivered, key=priority.when_received) if one.received]
    if served != sorted(served, reverse=True):
        yield f"priorities in the order of service: {served}, expected {sorted(served, reverse=True)}"


def dead_lettered(delivered: Sequence[Delivery]) -> Iterator[str]:
    """What the dead-letter lesson promises beside it: what was sold out is received twice."""
    queues = [receipt.queue for receipt in delivered[-1].received]
    if queues and queues != ["orders", "orders_dead"]:
        yield f"sold-out: {queues}, expected ['orders', 'orders_dead']"


def every_entry_point(lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What the lesson on entry points shows on RabbitMQ: each worker receives the announcement."""
    yield from (f"{one['what']}: {one['happened']}" for one in lines if one["happened"].endswith("received nothing"))


def filled_queues_by_priority(lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What the lesson on queues shows on RabbitMQ: a filled queue is served by priority."""
    for one in lines:
        if one["what"] in ("priority · a filled queue", "priority · filled behind a busy worker"):
            served = [int(word) for word in one["happened"].split() if word.isdigit()]
            if served != sorted(served, reverse=True):
                yield f"{one['what']}: {one['happened']}, expected the highest priority first"


# Module of a lesson -> what else it shows on RabbitMQ, by the lines that it says
TOLD: dict[str, Callable[[Iterable[dict[str, Any]]], Iterable[str]]] = {
    entries.__name__: every_entry_point,
    queues.__name__: filled_queues_by_priority,
}

CHECKS: dict[str, Callable[[Sequence[Delivery]], Iterable[str]]] = {
    priority.__name__: served_by_priority,
    deadletter.__name__: dead_lettered,
}


def _in_short(wrong: Sequence[str]) -> str:
    """What did not hold of a lesson: the first of it, and how much there is beside."""
    if not wrong:
        return "holds"
    return wrong[0] if len(wrong) == 1 else f"{wrong[0]} (and {len(wrong) - 1} more)"


def title(broker: str) -> str:
    """What the table calls a broker."""
    return TITLES[urlsplit(broker).scheme or broker]


@contextmanager
def _url(broker: str) -> Iterator[str]:
    if broker == MEMORY:
        yield MEMORY
        return
    with brokers.broker(broker) as address:
        yield address.url


def _lines(columns: Mapping[str, Mapping[str, str]], is_json: bool) -> Iterator[str]:
    titles = [title(broker) for broker in columns]
    rows = [(what, *(column[what] for column in columns.values())) for what in next(iter(columns.values()))]
    if is_json:
        yield from (json.dumps({"what": what, **dict(zip(titles, got, strict=True))}) for what, *got in rows)
        return
    yield _row("what", *titles)
    yield _row(*["---"] * (len(titles) + 1))
    yield from (_row(*row) for row in rows)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run(main, name="python -m tools.elsewhere")
