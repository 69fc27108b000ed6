"""`waybill topology`: everything that the application declares, in one of four formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from waybill.celery_app.broker_url import vhost_of
from waybill.celery_app.declared import from_celery
from waybill.celery_app.fleet.workers import Fleet
from waybill.cli import terminal
from waybill.cli.application import application_of, fleet_of, neighbours_of
from waybill.cli.commands.parameters import fleet_options
from waybill.cli.rendering import mermaid, topology_node
from waybill.errors import EXIT_OK
from waybill.topology import Binding, Exchange, Queue, Topology
from waybill.topology.definitions import to_definitions
from waybill.topology.fields import plain

Workers = Mapping[str, Sequence[str]]
"""Queue -> the workers that consume it."""


def _text(topology: Topology, workers: Workers | None) -> None:
    terminal.print_tree(topology_node(topology, workers))


def _json(topology: Topology, workers: Workers | None) -> None:
    terminal.echo(json.dumps(to_json(topology, workers), indent=2))


def _mermaid(topology: Topology, workers: Workers | None) -> None:
    click.echo(mermaid(topology, workers), nl=False)


def _definitions(topology: Topology, _workers: Workers | None) -> None:
    terminal.echo(json.dumps(to_definitions(topology), indent=2))


FORMATS: dict[str, Callable[[Topology, Workers | None], None]] = {
    "text": _text,
    "json": _json,
    "mermaid": _mermaid,
    "definitions": _definitions,
}


@click.command()
@click.option(
    "--format",
    "style",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="How to print it: json has the workers too, definitions is what RabbitMQ imports.",
)
@click.option("--json", "is_json", is_flag=True, help="The same as --format json.")
@fleet_options
@click.pass_context
def topology(ctx: click.Context, /, style: str, is_json: bool, **given: Any) -> int:
    """Show all exchanges, queues and bindings that the application declares.

    With a fleet, each queue is shown with the workers that consume it.
    """
    if is_json and style not in ("text", "json"):
        raise click.UsageError(f"--json and --format {style} exclude each other")
    app = application_of(ctx)
    others = neighbours_of(ctx, app)
    declared = from_celery(app, others, vhost=vhost_of(app))
    FORMATS["json" if is_json else style](declared, _workers(declared, fleet_of(ctx, app, **given, others=others)))
    return EXIT_OK


def _workers(declared: Topology, fleet: Fleet | None) -> Workers | None:
    return None if fleet is None else {queue.name: fleet.consumers(queue.name) for queue in declared.queues}


def to_json(topology: Topology, workers: Workers | None) -> dict[str, Any]:
    """The topology as Waybill's own JSON, with the names of fields that `explain --json` and `diff --json` use.

    Unlike RabbitMQ's definitions it has exclusive queues, the types of queues, and their workers: a list of names, or
    null without a fleet.
    """
    return {
        "vhost": topology.vhost,
        "exchanges": [_exchange(exchange) for exchange in topology.exchanges],
        "queues": [_queue(queue, workers) for queue in topology.queues],
        "bindings": [_binding(binding) for binding in topology.bindings],
    }


def _exchange(exchange: Exchange) -> dict[str, Any]:
    return {
        "name": exchange.name,
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": plain(exchange.arguments),
    }


def _queue(queue: Queue, workers: Workers | None) -> dict[str, Any]:
    return {
        "name": queue.name,
        "type": queue.type,
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "auto_delete": queue.auto_delete,
        "arguments": plain(queue.arguments),
        "workers": None if workers is None else list(workers.get(queue.name, ())),
    }


def _binding(binding: Binding) -> dict[str, Any]:
    return {
        "source": binding.source,
        "destination": binding.destination,
        "destination_type": binding.destination_type,
        "binding_key": binding.binding_key,
        "arguments": plain(binding.arguments),
    }
