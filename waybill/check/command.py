"""`waybill check`: gather what is known, run the rules, say what they found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from waybill import terminal
from waybill.application import configuration_of, load, name_of
from waybill.celery_broker import vhost_of
from waybill.check import Facts, FleetFacts, LiveFacts, Report, Severity, facts_of, find_rule, report
from waybill.check import check as run_check
from waybill.check.facts import AppFacts
from waybill.check.live import live_facts, version_of
from waybill.check.workers import fleet_facts
from waybill.configuration import Configuration
from waybill.errors import EXIT_FINDINGS, EXIT_OK
from waybill.management import Management

STYLES = {"error": "red", "warning": "yellow"}


def _codes(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


def _version(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    try:
        return None if value is None else version_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    path = click.Path(dir_okay=False, path_type=Path)
    severities = click.Choice([severity.word for severity in Severity])
    for option in (
        click.option("--explain", "explained", metavar="CODE", help="Say all there is to say of a rule."),
        click.option("--list", "is_list", is_flag=True, help="List the rules."),
        click.option("--fail-on", type=severities, default="warning", show_default=True, help="Exit with 1 from here."),
        click.option("--ignore", multiple=True, callback=_codes, metavar="CODES", help="Not these: WB105,WB3."),
        click.option("--select", multiple=True, callback=_codes, metavar="CODES", help="Only these: WB105,WB3."),
        click.option("--github", "is_github", is_flag=True, help="The findings as annotations of a workflow."),
        click.option("--json", "is_json", is_flag=True, help="The answer as one JSON object."),
        click.option("--rabbitmq", callback=_version, metavar="VERSION", help="RabbitMQ's version, such as 4.3."),
        click.option("--vhost", help="The vhost to look at; that of the application's broker by default."),
        click.option(
            "--management",
            metavar="URL",
            envvar="WAYBILL_MANAGEMENT_URL",
            show_envvar=True,
            help="http://user:password@host:15672: look at what lives there, as a user tagged `monitoring`.",
        ),
        click.option("--fleet", type=path, help="The docker-compose.yml or Procfile of the workers."),
    ):
        command = option(command)
    return command


@click.command()
@_options
@click.pass_context
def check(ctx: click.Context, /, is_list: bool, explained: str | None, fail_on: str, **given: Any) -> int:
    """Find the routing mistakes of the application before they lose a task.

    Nothing is published and nothing is changed; a broker is asked only with --management, and only by GET.
    """
    if is_list:
        click.echo(report.listing())
        return EXIT_OK
    if explained is not None:
        click.echo(report.explanation(find_rule(explained)))
        return EXIT_OK
    if given["is_json"] and given["is_github"]:
        raise click.UsageError("--json and --github are two forms of one answer: take one of them")
    configuration = configuration_of(ctx)
    facts = _facts(ctx, configuration, given["fleet"], given["management"], given["vhost"], given["rabbitmq"])
    found = run_check(facts, select=given["select"], ignore=given["ignore"], accepted=configuration.ignore)
    _show(found, given["is_json"], given["is_github"])
    return EXIT_FINDINGS if found.is_failed_at(Severity[fail_on.upper()]) else EXIT_OK


def _facts(
    ctx: click.Context,
    configuration: Configuration,
    fleet: Path | None,
    management: str | None,
    vhost: str | None,
    version: tuple[int, int] | None,
) -> Facts:
    app = load(ctx)
    found = facts_of(app)
    workers = _workers(fleet or configuration.fleet, found, name_of(ctx))
    live = None if management is None else _live(management, vhost or vhost_of(app))
    return Facts(found, workers, live, version or (live.version if live else None))


def _workers(path: Path | None, app: AppFacts, name: str | None) -> FleetFacts | None:
    return None if path is None else fleet_facts(path, app.declared, name)


def _live(url: str, vhost: str) -> LiveFacts:
    with Management(url, vhost) as management:
        return live_facts(management, vhost)


def _show(found: Report, is_json: bool, is_github: bool) -> None:
    if is_json:
        click.echo(json.dumps(found.to_json()))
    elif is_github:
        click.echo(report.workflow(found), nl=bool(found.findings))
    else:
        for line in report.text(found).splitlines():
            style = next((style for word, style in STYLES.items() if line[6:].startswith(f"{word}  ")), "")
            terminal.out.print(line, style=style, markup=False)
