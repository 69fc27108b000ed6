"""The same calls on several brokers, side by side: python -m publishers.elsewhere embedded memory://

With a RabbitMQ and a Redis it makes the table of docs/choosing.md:

    python -m publishers.elsewhere docker embedded redis://127.0.0.1:6379/0 memory://
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import click

from publishers.probes import PROBES, attempt
from waybill import provision
from waybill.errors import EXIT_OK
from waybill.terminal import run

MEMORY = "memory://"

# What is named, or the scheme of its URL -> how the table calls it.
TITLES = {
    provision.EMBEDDED: "embedded",
    provision.DOCKER: "RabbitMQ",
    "memory": MEMORY,
    **dict.fromkeys(provision.PORTS, "RabbitMQ"),
    **dict.fromkeys(provision.REDIS, "Redis"),
}


@click.command()
@click.option("--json", "is_json", is_flag=True, help="One object for each row, one on a line.")
@click.argument("brokers", metavar="[BROKER]...", nargs=-1)
def main(brokers: Sequence[str], is_json: bool) -> int:
    """Try what each BROKER does with the same messages, and print a table.

    A BROKER is `embedded`, `docker` (RabbitMQ in a container), `memory://`, or the URL of one that is there, on which
    nothing is left. Without any: embedded memory://.
    """
    brokers = brokers or (provision.EMBEDDED, MEMORY)
    columns = {}
    for broker in brokers:
        with _url(broker) as url:
            columns[broker] = outcomes(url)
    for line in _lines(columns, is_json):
        click.echo(line)
    return EXIT_OK


def outcomes(url: str) -> dict[str, str]:
    """What was tried -> what came of it."""
    return {what: attempt(url, probe) for what, probe in PROBES}


def title(broker: str) -> str:
    """What the table calls a broker."""
    return TITLES[urlsplit(broker).scheme or broker]


@contextmanager
def _url(broker: str) -> Iterator[str]:
    if broker == MEMORY:
        yield MEMORY
        return
    with provision.broker(broker) as address:
        yield address.url


def _lines(columns: Mapping[str, Mapping[str, str]], is_json: bool) -> Iterator[str]:
    titles = [title(broker) for broker in columns]
    rows = [(what, *(column[what] for column in columns.values())) for what, _ in PROBES]
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
