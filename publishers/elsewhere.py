"""The same calls on several brokers, side by side: python -m publishers.elsewhere embedded memory://

With a RabbitMQ and a Redis it makes the tables of docs/explanation/choosing.md:

    python -m publishers.elsewhere docker embedded redis://127.0.0.1:6379/0 memory://
    python -m publishers.elsewhere --lessons docker embedded redis://127.0.0.1:6379/0
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from urllib.parse import urlsplit

import click

import exchanges
from publishers.__main__ import TOUR, play
from publishers.probes import PROBES, attempt
from publishers.stage import open_stage
from waybill.cli.running import run
from waybill.errors import EXIT_OK, InputError
from waybill.testing import brokers

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
    silence = io.StringIO()
    found = {}
    with (
        redirect_stdout(silence),
        redirect_stderr(silence),
        open_stage(broker, exchanges.QUEUES, is_json=True, is_tour=True) as stage,
    ):
        for what, lesson in TOUR:
            stage.surprises.clear()
            stage.skipped.clear()
            play(lesson, stage)
            found[what.partition(" · ")[0]] = _in_short([*stage.surprises, *stage.skipped])
    return found


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
    run(main, name="python -m publishers.elsewhere")
