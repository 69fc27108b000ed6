"""`waybill explain`: the whole way of one task, before it is published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from waybill.celery_app.broker_url import vhost_of
from waybill.cli import terminal
from waybill.cli.application import application_name, application_of, fleet_of, neighbours_of
from waybill.cli.commands.parameters import (
    fleet_options,
    management_option,
    message_options,
    named_values,
    vhost_option,
)
from waybill.cli.rendering import explanation_node
from waybill.errors import EXIT_OK
from waybill.explain import explain_task
from waybill.rabbitmq.state import facts_at


def _list(_ctx: click.Context, _option: click.Parameter, given: str | None) -> Any:
    return _json(given, list, 'a JSON array, such as [1, "a"]') if given else []


def _mapping(_ctx: click.Context, _option: click.Parameter, given: str | None) -> Any:
    return _json(given, dict, 'a JSON object, such as {"name": 1}') if given else {}


def _json(given: str, kind: type, expected: str) -> Any:
    try:
        value = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{given!r}: not JSON: {error}; expected {expected}") from error
    if not isinstance(value, kind):
        raise click.BadParameter(f"{given!r}: expected {expected}")
    return value


@click.command()
@click.argument("task")
@click.option("--queue", metavar="NAME", help="The option `queue` of the call.")
@click.option("--countdown", type=float, metavar="SECONDS", help="The option `countdown` of the call.")
@click.option("--expires", type=float, metavar="SECONDS", help="The option `expires` of the call.")
@click.option("--eta", type=click.DateTime(), metavar="TIME", help="The option `eta` of the call.")
@click.option("--args", metavar="JSON", callback=_list, help="The task's arguments, for routers that look at them.")
@click.option("--kwargs", metavar="JSON", callback=_mapping, help="Its keyword arguments.")
@click.option(
    "--option",
    "more",
    multiple=True,
    metavar="NAME=TEXT",
    callback=named_values,
    help="Another option of `apply_async`, or NAME:=JSON for another type. May be repeated.",
)
@click.option("--send-task", "is_foreign", is_flag=True, help="Also explain a task that is not registered here.")
@management_option("Route by what exists on the broker, too: the URL of its management API")
@vhost_option
@click.option("--signals", is_flag=True, help="Call the application's before_task_publish handlers.")
@fleet_options
@message_options
@click.pass_context
def explain(
    ctx: click.Context,
    /,
    task: str,
    fleet: Sequence[Path],
    without_fleet: bool,
    ignored: Sequence[str],
    signals: bool,
    args: list[Any],
    kwargs: dict[str, Any],
    is_foreign: bool,
    management: str | None,
    vhost: str | None,
    is_json: bool,
    more: dict[str, Any],
    **options: Any,
) -> int:
    """Show where Celery would send TASK, and why.

    The options are those of `apply_async`. Celery builds the message and nothing is published. The answer names the
    source of each option, the queues that the message reaches, and the workers that consume them. With --management,
    what exists on the broker counts as well, its policies included; it is sent GET requests only.
    """
    call = {name: value for name, value in {**more, **options}.items() if value not in (None, {})}
    app = application_of(ctx)
    others = neighbours_of(ctx, app)
    workers = fleet_of(ctx, app, fleet, without_fleet, ignored, others)
    explanation = explain_task(
        app,
        task,
        call,
        workers,
        calls_handlers=signals,
        args=args,
        kwargs=kwargs,
        is_foreign=is_foreign,
        name=application_name(ctx),
        others=others,
        live=None if management is None else facts_at(management, vhost or vhost_of(app)),
    )
    if is_json:
        terminal.echo(json.dumps(explanation.to_json()))
    else:
        terminal.print_tree(explanation_node(explanation))
    return EXIT_OK
