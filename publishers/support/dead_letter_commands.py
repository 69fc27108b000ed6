"""Look after the dead letters at the terminal: python -m publishers.deadletter list|inspect|requeue"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click
from kombu import Connection

from exchanges.reliability import parked
from publishers.support.dead_letters import DeadLetter, look, put_back, refuse_unknown
from publishers.support.program import broker_options
from waybill.cli.terminal import out, print_error, print_line
from waybill.errors import EXIT_FINDINGS, EXIT_OK, InputError
from waybill.testing import brokers
from worker.app import app


@contextmanager
def connected(broker: str) -> Iterator[Connection]:
    """A connection to a broker that is there.

    Raises:
        InputError: it would have to be started first, or it is none with dead-letter exchanges.
    """
    if broker in (brokers.EMBEDDED, brokers.DOCKER):
        raise InputError(
            f"broker {broker!r}: it would be a new one, without dead letters; expected the URL of one that runs, "
            "such as --broker amqp://guest:guest@127.0.0.1:5672//"
        )
    with (
        brokers.broker(broker) as address,
        brokers.use_broker(app, address.url),
        brokers.connect(app) as connection,
    ):
        driver = connection.transport.driver_type
        if driver != "amqp":
            raise InputError(f"dead letters need AMQP, and this broker is {driver}")
        yield connection


@click.command("list")
@broker_options
def list_(broker: str, is_json: bool) -> int:
    """One line for each dead letter, the oldest first: its id, its task, and where and why it died."""
    with connected(broker) as connection:
        letters = look(connection)
    for letter in letters:
        show(letter, is_json)
    if not letters and not is_json:
        out.print(f"  [dim]no dead letters in {parked.name!r}[/dim]")
    return EXIT_OK


@click.command()
@click.argument("id")
@broker_options
def inspect(id: str, broker: str, is_json: bool) -> int:
    """All there is in the dead letter of this ID: headers, properties and body."""
    with connected(broker) as connection:
        letters = look(connection)
    refuse_unknown([id], letters)
    for letter in (one for one in letters if one.id == id):
        whole = {**letter.summary, "headers": letter.headers, "properties": letter.properties, "body": letter.content}
        click.echo(json.dumps(whole, indent=None if is_json else 2, default=str))
    return EXIT_OK


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every dead letter that is there now.")
@broker_options
def requeue(ids: tuple[str, ...], is_all: bool, broker: str, is_json: bool) -> int:
    """Put the dead letters of these IDs back into the queues where they died; exit code 1 when no queue takes one."""
    if is_all is bool(ids):
        raise click.UsageError("requeue: expected the ID of a dead letter, or several, or --all")
    with connected(broker) as connection:
        back, left = put_back(connection, None if is_all else ids)
    for letter in back:
        show(letter, is_json, f"back in {letter.queue}")
    for letter in left:
        where = (
            f"the queue {letter.queue!r} doesn't take it" if letter.queue else "it doesn't say in which queue it died"
        )
        print_error(f"still in {parked.name!r}: {letter.id}: {where}")
    return EXIT_FINDINGS if left else EXIT_OK


def show(letter: DeadLetter, is_json: bool, happened: str = "") -> None:
    """One line for a dead letter, and what was done with it."""
    if is_json:
        click.echo(json.dumps(letter.summary))
        return
    died = f"{letter.reason} in {letter.queue}" if letter.queue else f"published to {parked.name} itself"
    when = f", {letter.died:%Y-%m-%d %H:%M:%S} UTC" if letter.died else ""
    before = f", put back {letter.requeued} time(s) before" if letter.requeued else ""
    name = letter.id or "(without an id)"
    print_line(f"  {name}  {letter.task} → {happened or died + when + before}")
