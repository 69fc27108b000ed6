"""`waybill check`: gather the facts, run the rules, print the findings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from waybill.celery_app.broker_url import vhost_of
from waybill.check import Report, Severity, find_rule, gather, report
from waybill.check import check as run_check
from waybill.check.baseline import beyond, written
from waybill.check.baseline import read as read_baseline
from waybill.check.sarif import sarif
from waybill.check.several import Question, check_beside, together
from waybill.cli import terminal
from waybill.cli.application import application_names, application_of, configuration_of, fleet_paths, folders_of
from waybill.cli.commands.parameters import FILE, Command, fleet_options, json_option, management_option, vhost_option
from waybill.errors import EXIT_FINDINGS, EXIT_OK, InputError
from waybill.rabbitmq.state import facts_at, version_of

STYLES = {"error": "red", "warning": "yellow"}


def _codes(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


def _version(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    try:
        return None if value is None else version_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _options(command: Command) -> Command:
    for option in (
        click.option("--explain", "explained", metavar="CODE", help="Explain a rule, with examples, and exit."),
        click.option("--list", "is_list", is_flag=True, help="List the rules and exit."),
        click.option(
            "--fail-on",
            type=click.Choice([severity.word for severity in Severity]),
            default="warning",
            show_default=True,
            help="Lowest severity that makes the exit status 1.",
        ),
        click.option("--ignore", multiple=True, callback=_codes, metavar="CODES", help="Skip these rules: WB105,WB3."),
        click.option(
            "--select", multiple=True, callback=_codes, metavar="CODES", help="Run only these rules: WB105,WB3."
        ),
        click.option("--strict", is_flag=True, help="Calls that could not be read make the exit status 1, too."),
        click.option("--github", "is_github", is_flag=True, help="Print the findings as GitHub workflow annotations."),
        click.option("--sarif", "is_sarif", is_flag=True, help="Print the findings as SARIF 2.1.0."),
        json_option,
        click.option("--baseline", type=FILE, help="Leave out what stands in this file: only what is new fails."),
        click.option(
            "--write-baseline",
            "new_baseline",
            type=FILE,
            help="Write the findings into a file for --baseline, and exit 0.",
        ),
        click.option("--rabbitmq", callback=_version, metavar="VERSION", help="RabbitMQ's version, such as 4.3."),
        vhost_option,
        management_option("Check the broker too: the URL of its management API"),
        fleet_options,
    ):
        command = option(command)
    return command


@click.command()
@_options
@click.pass_context
def check(ctx: click.Context, /, is_list: bool, explained: str | None, fail_on: str, **given: Any) -> int:
    """Find routing mistakes in the application.

    The command publishes nothing and changes nothing. It connects to a broker only with --management, and then sends
    GET requests only; the user needs the tag `monitoring`. The exit status is 1 if there are findings; see --fail-on.
    """
    if is_list:
        click.echo(report.listing())
        return EXIT_OK
    if explained is not None:
        click.echo(report.explanation(find_rule(explained)))
        return EXIT_OK
    if sum((given["is_json"], given["is_github"], given["is_sarif"])) > 1:
        raise click.UsageError("--json, --github and --sarif exclude each other")
    if given["baseline"] and given["new_baseline"]:
        raise click.UsageError("--baseline and --write-baseline exclude each other")
    known = read_baseline(given["baseline"]) if given["baseline"] else None
    found = _report(ctx, given)
    if given["new_baseline"]:
        return _write(found, given["new_baseline"])
    found = found if known is None else beyond(found, known)
    _show(found, given)
    is_unread = given["strict"] and bool(found.source.not_literal or found.source.unreadable or found.unread)
    return EXIT_FINDINGS if is_unread or found.is_failed_at(Severity[fail_on.upper()]) else EXIT_OK


def _report(ctx: click.Context, given: Mapping[str, Any]) -> Report:
    """What is found in the application, or in all of them."""
    paths = fleet_paths(ctx, given["fleet"], given["without_fleet"])
    chosen = {"select": given["select"], "ignore": given["ignore"], "accepted": configuration_of(ctx).ignore}
    app, management = application_of(ctx), given["management"]
    live = None if management is None else facts_at(management, given["vhost"] or vhost_of(app))
    names = application_names(ctx)
    if len(names) > 1:
        asked = Question(tuple(folders_of(ctx)), paths, given["ignored"], live, given["rabbitmq"], chosen)
        return together({one: check_beside(one, [name for name in names if name != one], asked) for one in names})
    facts = gather(
        app,
        name=next(iter(names), None),
        fleet=paths,
        ignored=given["ignored"],
        live=live,
        rabbitmq=given["rabbitmq"],
    )
    return run_check(facts, **chosen)


def _write(found: Report, path: Path) -> int:
    try:
        path.write_text(written(found.findings), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    terminal.print_note(f"{path}: a baseline of {len(found.findings)} findings")
    return EXIT_OK


def _show(found: Report, given: Mapping[str, Any]) -> None:
    if given["is_json"]:
        terminal.echo(json.dumps(found.to_json()))
    elif given["is_sarif"]:
        terminal.echo(json.dumps(sarif(found), indent=1))
    elif given["is_github"]:
        click.echo(report.workflow(found), nl=bool(found.findings))
    else:
        for line in report.text(found).splitlines():
            style = next((style for word, style in STYLES.items() if line[6:].startswith(f"{word}  ")), "")
            terminal.print_line(line, style)
