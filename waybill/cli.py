"""The command line: `waybill ...`, and the same as `celery -A proj waybill ...`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from waybill import render, terminal
from waybill.application import NAME, load
from waybill.broker.command import broker
from waybill.celery_broker import vhost_of
from waybill.check.command import check
from waybill.diff.command import declare, diff
from waybill.errors import EXIT_FAILED, EXIT_OK, UnknownName, WaybillError
from waybill.explain import explain_task
from waybill.fleet import Fleet, read_fleet
from waybill.publication import check_names
from waybill.route_many import route_lines
from waybill.routing import Router
from waybill.topology import Message, Topology
from waybill.topology.celery_app import from_celery
from waybill.topology.definitions import read_definitions, to_definitions

FILE = click.Path(dir_okay=False, path_type=Path)


class _Commands(click.Group):
    """Below `celery -A proj`, too, an error is one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
        except WaybillError as error:
            terminal.complain(str(error))
            ctx.exit(error.exit_code)
        # The command `celery` drops what a command returns.
        if ctx.parent is not None and isinstance(code, int):
            ctx.exit(code)
        return code


@click.group(cls=_Commands, invoke_without_command=True)
@click.option("-A", "--app", "name", metavar="APP", help="The Celery application, as `celery -A` takes it.")
@click.version_option(package_name="waybill")
@click.pass_context
def waybill(ctx: click.Context, name: str | None) -> None:
    """Know where every Celery task goes on RabbitMQ."""
    ctx.meta[NAME] = name
    if ctx.invoked_subcommand is None:
        # Click's own way raises it as an error, which `terminal.run` would put into one line.
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_FAILED)


def _headers(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """`k=v` is text, `k:=v` is JSON: a headers exchange tells 1 from "1"."""
    headers: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.removesuffix(":"):
            raise click.BadParameter(f"{value!r}: expected name=text, or name:=JSON for another type")
        try:
            headers[name.removesuffix(":")] = json.loads(text) if name.endswith(":") else text
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: not JSON behind `:=`: {error}") from error
    return headers


def _message_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a message, the same for `route` and `explain`."""
    for option in (
        click.option("--json", "is_json", is_flag=True, help="The answer as one JSON object."),
        click.option("--priority", type=click.IntRange(0, 255)),
        click.option("--header", "headers", multiple=True, callback=_headers, help="name=text, or name:=JSON."),
        click.option("--routing-key"),
        click.option("--exchange"),
    ):
        command = option(command)
    return command


@waybill.command()
@click.option("--definitions", type=FILE, required=True, help="What `rabbitmqctl export_definitions` writes.")
@click.option("--vhost", help="Which vhost of the definitions; `/` or the only one by default.")
@click.option("--messages", type=FILE, help="Route many: one JSON object a line in, one out; `-` is standard input.")
@_message_options
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
    """Say which queues a message reaches, and why."""
    router = Router.of(read_definitions(definitions, vhost))
    if messages is not None:
        return route_lines(router, messages)
    if exchange is None:
        raise click.UsageError("expected --exchange (the default exchange is '') or --messages")
    check_names(exchange, routing_key or "", headers)
    if exchange not in router.exchanges:
        raise UnknownName("exchange", exchange, filter(None, router.exchanges), str(definitions))
    trace = router.trace(Message(exchange, routing_key or "", headers, priority))
    if is_json:
        click.echo(json.dumps(trace.to_json()))
    else:
        terminal.show_tree(render.trace_node(trace))
        click.echo(f"queues: {', '.join(trace.queues) or 'none, the message is unroutable'}")
    return EXIT_OK


@waybill.command()
@click.argument("task")
@click.option("--queue")
@click.option("--countdown", type=float, help="Seconds.")
@click.option("--fleet", type=FILE, help="The docker-compose.yml or Procfile of the workers.")
@click.option("--signals", is_flag=True, help="Call the application's before_task_publish handlers.")
@_message_options
@click.pass_context
def explain(ctx: click.Context, /, task: str, fleet: Path | None, signals: bool, is_json: bool, **options: Any) -> int:
    """Say what Celery would publish for TASK with these options, which queues that reaches, and who consumes them."""
    call = {name: value for name, value in options.items() if value not in (None, {})}
    explanation = explain_task(load(ctx), task, call, _fleet(fleet), calls_handlers=signals)
    if is_json:
        click.echo(json.dumps(explanation.to_json()))
    else:
        terminal.show_tree(render.explanation_node(explanation))
    return EXIT_OK


FORMATS: dict[str, Callable[[Topology, Mapping[str, Sequence[str]]], str]] = {
    "text": lambda topology, workers: render.tree(render.topology_node(topology, workers)) + "\n",
    "json": lambda topology, _: json.dumps(to_definitions(topology), indent=2) + "\n",
    "mermaid": render.mermaid,
    "definitions": lambda topology, _: json.dumps(to_definitions(topology), indent=2) + "\n",
}


@waybill.command()
@click.option("--format", "style", type=click.Choice(list(FORMATS)), default="text", show_default=True)
@click.option("--fleet", type=FILE, help="The docker-compose.yml or Procfile of the workers.")
@click.pass_context
def topology(ctx: click.Context, style: str, fleet: Path | None) -> int:
    """Draw all that the application declares."""
    app = load(ctx)
    declared = from_celery(app, vhost=vhost_of(app))
    click.echo(FORMATS[style](declared, _consumers(declared, _fleet(fleet))), nl=False)
    return EXIT_OK


def _fleet(path: Path | None) -> Fleet | None:
    return None if path is None else read_fleet(path)


def _consumers(declared: Topology, fleet: Fleet | None) -> Mapping[str, Sequence[str]]:
    """Queue -> the workers that consume it."""
    if fleet is None:
        return {}
    return {queue.name: fleet.consumers(queue.name) for queue in declared.queues}


waybill.add_command(broker)
waybill.add_command(check)
waybill.add_command(diff)
waybill.add_command(declare)
celery_command = waybill


def program() -> None:
    """The console script."""
    terminal.run(waybill, name="waybill")
