"""`waybill declare`: what the workers would declare, on the application's broker."""

from __future__ import annotations

import json

import click

from waybill.celery_app.broker_url import vhost_of
from waybill.cli import terminal
from waybill.cli.application import application_name, only_application_of
from waybill.cli.commands.diff import print_plan
from waybill.cli.commands.parameters import json_option, management_option
from waybill.diff import Declared, Failure, Place, declared_by, difference, text
from waybill.diff.provision import Outcome
from waybill.diff.provision import declare as declare_on
from waybill.errors import EXIT_FINDINGS, EXIT_OK
from waybill.rabbitmq.management import Management
from waybill.rabbitmq.state import live_facts
from waybill.testing import brokers


@click.command()
@management_option("Look for refusals here first: the URL of the broker's management API")
@json_option
@click.pass_context
def declare(ctx: click.Context, /, management: str | None, is_json: bool) -> int:
    """Declare the application's exchanges, queues and bindings on its broker.

    If the broker would refuse one of them, nothing is declared and the exit status is 1. What exists already is not
    changed.
    """
    app = only_application_of(ctx)
    declared, vhost = declared_by(app), vhost_of(app)
    refused = _predicted(management, declared, vhost, application_name(ctx) or "proj") if management else ()
    if refused:
        outcome = Outcome(refused)
    else:
        with brokers.connect(app) as connection:
            outcome = declare_on(connection, declared, vhost)
    if is_json:
        terminal.echo(json.dumps(outcome.to_json() | {"vhost": vhost}))
    else:
        print_plan(text.outcome(outcome.made, outcome.failures, outcome.summary(vhost)))
    return EXIT_FINDINGS if outcome.failures else EXIT_OK


def _predicted(url: str, declared: Declared, vhost: str, name: str) -> tuple[Failure, ...]:
    with Management(url, vhost) as asked:
        return difference(declared, live_facts(asked, vhost), Place(name, asked.address)).failures
