"""`waybill broker`: the embedded broker in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from pathlib import Path

import click

from waybill.broker.management.serving import is_installed
from waybill.broker.server import Broker, is_loopback
from waybill.cli import terminal
from waybill.cli.commands.parameters import FILE
from waybill.errors import InputError, WaybillError
from waybill.topology.definitions import all_topologies, left_out, read_document

PASSWORD_VARIABLE = "WAYBILL_BROKER_PASSWORD"
"""Where the password of `--user` is read from: a command line is seen by every user of the machine."""

AMQP_PORT, MANAGEMENT_PORT = 5672, 15672
"""RabbitMQ's."""

RARELY = 1_000
"""Of how many collections of young objects one is full: seven million objects lie between two of those."""


@click.command()
@click.option("--port", default=5672, show_default=True, help="The port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--definitions", type=FILE, help="A file of RabbitMQ definitions to start with.")
@click.option(
    "--user", default="guest", show_default=True, help=f"The user who may log in; ${PASSWORD_VARIABLE} is the password."
)
@click.option(
    "--management-port",
    type=int,
    help="The port of the management API; 0 takes a free one. By default 15672 where --port is 5672 and the extra "
    "`live` is installed, and otherwise there is none.",
)
@click.option("--tracing", is_flag=True, help="Send copies of all messages to the exchange amq.rabbitmq.trace.")
def broker(
    port: int, host: str, definitions: Path | None, user: str, management_port: int | None, *, tracing: bool
) -> None:
    """Run a broker in memory, for tests and demos on this machine.

    It speaks AMQP 0-9-1 as RabbitMQ 4.3 does, and forgets everything when it ends. Use RabbitMQ for messages that must
    survive.
    """
    if management_port is None and port == AMQP_PORT and is_installed():
        management_port = MANAGEMENT_PORT if _is_free(host, MANAGEMENT_PORT) else 0
    embedded = Broker(
        host,
        port,
        users={user: _password(user, host)},
        tracing=tracing,
        management=management_port is not None,
        management_port=management_port or 0,
    )
    if definitions is not None:
        _load(embedded, definitions)
    # A full collection looks at each message that is kept, with all clients waiting: half a second for four million.
    gc.set_threshold(*gc.get_threshold()[:2], RARELY)
    asyncio.run(_serve(embedded, user))


def _load(embedded: Broker, path: Path) -> None:
    document = read_document(path)
    missing = left_out(document)
    for topology in all_topologies(document, where=str(path)):
        try:
            missing += embedded.node.vhost(topology.vhost).load(topology)
        except WaybillError as error:
            raise InputError(f"{path}: vhost {topology.vhost!r}: {error}") from None
    if missing:
        terminal.print_note(f"waybill broker: {path}: left out, this broker has none: {', '.join(missing)}")


def _password(user: str, host: str) -> str:
    password = os.environ.get(PASSWORD_VARIABLE)
    if password:
        return password
    if user != "guest":
        raise InputError(f"the user {user} needs a password in ${PASSWORD_VARIABLE}")
    if not is_loopback(host):
        raise InputError(f"to listen on {host}, name a --user of your own and its password in ${PASSWORD_VARIABLE}")
    return "guest"


def _is_free(host: str, port: int) -> bool:
    """Whether a port can be had, for one that nobody has asked for by its number."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return False
    return True


async def _serve(embedded: Broker, user: str) -> None:
    loop = asyncio.get_running_loop()
    is_over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, is_over.set)
    async with embedded:
        api = f", management API on {embedded.management_address}" if embedded.management_address else ""
        terminal.print_line(
            f"waybill broker on {embedded.address}{api} (user {user}): in memory, for this machine's tests and demos; "
            "for anything that must survive, use RabbitMQ"
        )
        await is_over.wait()
        terminal.print_line("waybill broker: closing connections")
