"""`waybill diff` and `waybill declare`: ask, compare, say; and the two that change something on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from waybill import provision, terminal
from waybill.application import load, name_of
from waybill.celery_broker import broker_of, vhost_of
from waybill.check.live import live_facts
from waybill.check.stale import living
from waybill.diff import Declared, Failure, Place, declared_by, difference, text
from waybill.diff.declaring import Outcome, require_amqp
from waybill.diff.declaring import declare as declare_on
from waybill.diff.plan import described
from waybill.diff.unbinding import Unbinding, unbinding
from waybill.errors import EXIT_FINDINGS, EXIT_OK, InputError
from waybill.management import LiveBinding, Management
from waybill.render import printable

STYLES = {text.CREATE: "green", text.FAIL: "red", text.LEFT: "yellow"}
BINDINGS = "bindings"


def _management(*, is_required: bool, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--management",
        metavar="URL",
        envvar="WAYBILL_MANAGEMENT_URL",
        show_envvar=True,
        required=is_required,
        help=f"http://user:password@host:15672: {what}, as a user tagged `monitoring` (see docs/diff.md).",
    )


@click.command()
@_management(is_required=True, what="where to look at what lives")
@click.option("--vhost", help="The vhost to look at; that of the application's broker by default.")
@click.option("--json", "is_json", is_flag=True, help="The answer as one JSON object.")
@click.option("--fix", type=click.Choice([BINDINGS]), help="Unbind the stale bindings, after a question.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def diff(ctx: click.Context, /, management: str, vhost: str | None, is_json: bool, fix: str | None, yes: bool) -> int:
    """Hold what the application declares against what lives: + would be created, ! refused, - is not declared.

    The broker is asked by GET only, and nothing is changed but what --fix names. Exit code 1 on differences.
    """
    if yes and fix is None:
        raise click.UsageError("--yes answers the question of --fix bindings, which isn't there")
    app = load(ctx)
    require_amqp(broker_of(app))
    vhost = vhost or vhost_of(app)
    with Management(management, vhost) as asked:
        live = live_facts(asked, vhost)
        plan = difference(declared_by(app), live, Place(_name(ctx), asked.address))
        if not is_json:
            _show(text.text(plan))
        unbound = _fix(asked, unbinding(plan, live), is_agreed=yes) if fix else ()
    if is_json:
        fixed = {"unbound": [described(living(binding)) for binding in unbound]} if fix else {}
        click.echo(json.dumps(plan.to_json() | fixed))
    return EXIT_OK if plan.without(unbound).is_empty else EXIT_FINDINGS


def _fix(management: Management, chosen: Unbinding, *, is_agreed: bool) -> tuple[LiveBinding, ...]:
    """Unbind what may be, if it's agreed to; what is unbound."""
    for binding, reason in chosen.left:
        _note("left", binding, f": {reason}")
    if not chosen.bindings or not (is_agreed or _agreed(len(chosen.bindings))):
        return ()
    for binding in chosen.bindings:
        _note("unbound" if management.unbind(binding) else "gone already", binding)
    return chosen.bindings


def _note(word: str, binding: LiveBinding, reason: str = "") -> None:
    terminal.err.print(printable(f"{word}: {text.bound(binding)}{reason}"), markup=False)


def _name(ctx: click.Context) -> str:
    return name_of(ctx) or "proj"


def _show(lines: str) -> None:
    for line in lines.splitlines():
        terminal.out.print(line, style=STYLES.get(line[:1], ""), markup=False)


def _agreed(count: int) -> bool:
    """The answer of whoever sits there.

    Raises:
        InputError: nobody does.
    """
    question = f"unbind {count} stale binding{'s' if count != 1 else ''}? [y/N] "
    terminal.err.print(question, end="", markup=False)
    answer = sys.stdin.readline()
    if not answer:
        raise InputError("--fix bindings asks before it unbinds and nobody answers: expected --yes")
    return answer.strip().lower() in ("y", "yes")


@click.command()
@_management(is_required=False, what="ask there first what would be refused")
@click.option("--json", "is_json", is_flag=True, help="The answer as one JSON object.")
@click.pass_context
def declare(ctx: click.Context, /, management: str | None, is_json: bool) -> int:
    """Declare the application's exchanges, queues and bindings on its broker, as its workers would; or nothing.

    What lives there already stays as it is. Exit code 1 where the broker refuses something.
    """
    app = load(ctx)
    declared, vhost = declared_by(app), vhost_of(app)
    refused = _predicted(management, declared, vhost, _name(ctx)) if management else ()
    if refused:
        outcome = Outcome(refused)
    else:
        with provision.connect(app) as connection:
            outcome = declare_on(connection, declared, vhost)
    if is_json:
        click.echo(json.dumps(outcome.to_json() | {"vhost": vhost}))
    else:
        _show(text.outcome(outcome.made, outcome.failures, outcome.summary(vhost)))
    return EXIT_FINDINGS if outcome.failures else EXIT_OK


def _predicted(url: str, declared: Declared, vhost: str, name: str) -> tuple[Failure, ...]:
    with Management(url, vhost) as asked:
        return difference(declared, live_facts(asked, vhost), Place(name, asked.address)).failures
