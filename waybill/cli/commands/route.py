"""`waybill route`: where a message goes in a definitions file; no application is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from waybill.celery_app.publication import check_names
from waybill.cli import terminal
from waybill.cli.commands.parameters import FILE, message_options
from waybill.cli.rendering import trace_node
from waybill.cli.route_lines import route_lines
from waybill.errors import EXIT_OK, UnknownName
from waybill.routing import Router
from waybill.topology import Message
from waybill.topology.definitions import left_out, named_definitions, read_document


@click.command()
@click.option("--definitions", type=FILE, required=True, help="The file that `rabbitmqctl export_definitions` writes.")
@click.option("--vhost", metavar="NAME", help="The vhost in the file; by default / or the only one.")
@click.option("--messages", type=FILE, help="Route one message a line of this file, JSON in and out; - is stdin.")
@message_options
def route(
    definitions: Path,
    vhost: str | None,
    messages: Path | None,
    exchange: str | None,
    routing_key: str | None,
    headers: dict[str, Any],
    priority: int | None,
    is_json: bool,
) -> int:
    """Show which queues a message reaches, and why.

    The exchanges, queues and bindings are those of a definitions file. With --messages, the exit status is 1 if
    RabbitMQ would refuse one of the messages.
    """
    document = read_document(definitions)
    router = Router.of(named_definitions(document, vhost, str(definitions)))
    if missing := left_out(document, router.vhost):
        terminal.print_note(f"waybill route: {definitions}: left out: {', '.join(missing)}")
    if messages is not None:
        return route_lines(router, messages)
    if exchange is None:
        raise click.UsageError("expected --exchange (the default exchange is '') or --messages")
    check_names(exchange, routing_key or "", headers)
    if exchange not in router.exchanges:
        raise UnknownName("exchange", exchange, filter(None, router.exchanges), str(definitions))
    trace = router.trace(Message(exchange, routing_key or "", headers, priority))
    if is_json:
        terminal.echo(json.dumps(trace.to_json()))
    else:
        terminal.print_tree(trace_node(trace))
        found = ", ".join(trace.queues) or "none, the message is unroutable"
        terminal.print_line(f"{'queues' if trace.is_certain else 'only the broker knows which of'}: {found}")
    return EXIT_OK
