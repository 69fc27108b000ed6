"""`waybill route`: where a message goes by a definitions file or a broker; no application is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from waybill.celery_app.publication import check_names
from waybill.cli import terminal
from waybill.cli.commands.parameters import FILE, management_option, message_options
from waybill.cli.rendering import trace_node
from waybill.cli.route_lines import route_lines
from waybill.errors import EXIT_OK, UnknownName
from waybill.rabbitmq.state import facts_at
from waybill.routing import Router
from waybill.topology import DEFAULT_VHOST, Message
from waybill.topology.definitions import left_out, named_definitions, read_document


@click.command()
@click.option("--definitions", type=FILE, help="The file that `rabbitmqctl export_definitions` writes.")
@management_option("Route by what exists on the broker: the URL of its management API")
@click.option("--vhost", metavar="NAME", help="The vhost; by default / or the only one in the file.")
@click.option("--messages", type=FILE, help="Route one message a line of this file, JSON in and out; - is stdin.")
@message_options
def route(
    definitions: Path | None,
    management: str | None,
    vhost: str | None,
    messages: Path | None,
    exchange: str | None,
    routing_key: str | None,
    headers: dict[str, Any],
    priority: int | None,
    is_json: bool,
) -> int:
    """Show which queues a message reaches, and why.

    The exchanges, queues, bindings and policies are those of a definitions file, or of a broker, which is sent GET
    requests only. With --messages, the exit status is 1 if RabbitMQ would refuse one of the messages.
    """
    if definitions is not None:
        router, where = _of_file(definitions, vhost), str(definitions)
    elif management is not None:
        router, where = facts_at(management, vhost or DEFAULT_VHOST).router, f"vhost {vhost or DEFAULT_VHOST!r}"
    else:
        raise click.UsageError("expected --definitions FILE or --management URL")
    if messages is not None:
        return route_lines(router, messages)
    if exchange is None:
        raise click.UsageError("expected --exchange (the default exchange is '') or --messages")
    check_names(exchange, routing_key or "", headers)
    if exchange not in router.exchanges:
        raise UnknownName("exchange", exchange, filter(None, router.exchanges), where)
    trace = router.trace(Message(exchange, routing_key or "", headers, priority))
    if is_json:
        terminal.echo(json.dumps(trace.to_json()))
    else:
        terminal.print_tree(trace_node(trace))
        found = ", ".join(trace.queues) or "none, the message is unroutable"
        terminal.print_line(f"{'queues' if trace.is_certain else 'only the broker knows which of'}: {found}")
    return EXIT_OK


def _of_file(path: Path, vhost: str | None) -> Router:
    """The router of a definitions file; what it has no place for is said on standard error."""
    document = read_document(path)
    router = Router.of(named_definitions(document, vhost, str(path)))
    if missing := left_out(document, router.vhost):
        terminal.print_note(f"waybill route: {path}: left out: {', '.join(missing)}")
    return router
