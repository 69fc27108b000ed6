"""`waybill diff`: the application's declarations compared with what exists on the broker."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from waybill.celery_app.broker_url import broker_of, vhost_of
from waybill.cli import terminal
from waybill.cli.application import application_name, application_of, fleet_of, is_application_given, neighbours_of
from waybill.cli.commands.parameters import FILE, fleet_options, json_option, management_option, vhost_option
from waybill.diff import Declared, Place, declared_by, difference, text
from waybill.diff.plan import KINDS, described
from waybill.diff.provision import require_amqp
from waybill.diff.unbinding import Unbinding, unbinding
from waybill.errors import EXIT_FINDINGS, EXIT_OK, InputError
from waybill.rabbitmq.management import LiveBinding, Management
from waybill.rabbitmq.state import live_facts
from waybill.topology import Topology
from waybill.topology.definitions import read_definitions

STYLES = {text.CREATE: "green", text.FAIL: "red", text.LEFT: "yellow", text.UNMADE: "yellow"}
BINDINGS = "bindings"


@click.command()
@management_option("The URL of the broker's management API", is_required=True)
@vhost_option
@click.option(
    "--definitions",
    type=FILE,
    help="Compare this file with the broker, in place of an application: what `rabbitmqctl export_definitions` writes.",
)
@fleet_options
@json_option
@click.option("--fix", type=click.Choice([BINDINGS]), help="Remove the stale bindings, after asking.")
@click.option(
    "--fail-on",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help="Only differences of this kind make the exit status 1. May be repeated.",
)
@click.option("--yes", is_flag=True, help="Remove them without asking.")
@click.pass_context
def diff(
    ctx: click.Context,
    /,
    management: str,
    vhost: str | None,
    definitions: Path | None,
    fleet: Sequence[Path],
    without_fleet: bool,
    ignored: Sequence[str],
    is_json: bool,
    fix: str | None,
    kinds: Sequence[str],
    yes: bool,
) -> int:
    """Compare the application's declarations with the broker.

    A line begins with + if the next worker start would create it, with ! if the broker would refuse it, and with - if
    it exists on the broker and not in the application. A worker creates the queues that it consumes: with --fleet a
    line begins with ? if no worker creates it. With --definitions a file is compared in place of an application. The
    broker is sent GET requests only, except by --fix. The exit status is 1 if there are differences; see --fail-on.
    """
    if yes and fix is None:
        raise click.UsageError("--yes is for --fix bindings only")
    if definitions is not None:
        if is_application_given(ctx) or fleet:
            raise click.UsageError(
                "--definitions takes the place of an application: expected it without -A and --fleet"
            )
        declared, vhost = _listed(read_definitions(definitions, vhost))
    else:
        declared, vhost = _declared(ctx, vhost, (fleet, without_fleet, ignored))
    with Management(management, vhost) as asked:
        live = live_facts(asked, vhost)
        plan = difference(declared, live, Place(application_name(ctx) or "proj", asked.address))
        if not is_json:
            print_plan(text.text(plan))
        unbound = _fix(asked, unbinding(plan, live), is_agreed=yes) if fix else ()
    if is_json:
        fixed = {"unbound": [described(binding.binding) for binding in unbound]} if fix else {}
        terminal.echo(json.dumps(plan.to_json() | fixed))
    left = plan.without(unbound).kinds
    return EXIT_FINDINGS if left & set(kinds or KINDS) else EXIT_OK


def _listed(topology: Topology) -> tuple[Declared, str]:
    """What a definitions file lists, and its vhost; an export leaves out exclusive queues, which are their clients'."""
    queues = tuple(queue for queue in topology.queues if not queue.exclusive)
    gone = {queue.name for queue in topology.queues if queue.exclusive}
    bindings = tuple(
        one for one in topology.bindings if one.destination_type == "exchange" or one.destination not in gone
    )
    return Declared(topology.exchanges, queues, bindings), topology.vhost


def _declared(
    ctx: click.Context, vhost: str | None, fleet: tuple[Sequence[Path], bool, Sequence[str]]
) -> tuple[Declared, str]:
    """What the applications' workers declare, and their vhost."""
    app = application_of(ctx)
    require_amqp(broker_of(app))
    others = neighbours_of(ctx, app)
    found = fleet_of(ctx, app, *fleet, others)
    workers = found.of(application_name(ctx)) if found else None
    return declared_by(app, workers, others), vhost or vhost_of(app)


def _fix(management: Management, chosen: Unbinding, *, is_agreed: bool) -> tuple[LiveBinding, ...]:
    """Remove the chosen bindings, if that is agreed to; the bindings that were removed."""
    for binding, reason in chosen.left:
        _note("left", binding, f": {reason}")
    if not chosen.bindings or not (is_agreed or _agreed(len(chosen.bindings))):
        return ()
    for binding in chosen.bindings:
        _note("unbound" if management.unbind(binding) else "gone already", binding)
    return chosen.bindings


def _note(word: str, binding: LiveBinding, reason: str = "") -> None:
    terminal.print_note(f"{word}: {text.bound(binding)}{reason}")


def print_plan(lines: str) -> None:
    """The lines of a plan, each in the colour of its first character."""
    for line in lines.splitlines():
        terminal.print_line(line, STYLES.get(line[:1], ""))


def _agreed(count: int) -> bool:
    """Ask on the terminal.

    Raises:
        InputError: standard input is at its end.
    """
    question = f"unbind {count} stale binding{'s' if count != 1 else ''}? [y/N] "
    terminal.print_note(question, end="")
    answer = sys.stdin.readline()
    if not answer:
        raise InputError("--fix bindings asks before it unbinds and nobody answers: expected --yes")
    return answer.strip().lower() in ("y", "yes")
