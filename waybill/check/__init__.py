"""Find the routing mistakes of a Celery application before they lose a task.

    gather.py  publications.py  workers.py   the facts: the application, what it publishes, the workers   facts.py
    unroutable.py  ignored.py ...            the rules: one subject a file                     finding.py  wording.py
    report.py  sarif.py  baseline.py         the findings as text, JSON, annotations and SARIF; the known ones
    several.py                               a check of several applications

`check` runs the rules over facts. It connects to nothing and changes nothing: whoever gathers the facts of a live
broker, as `check_app` does, asks its management API, and only with GET.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from celery import Celery

from waybill.celery_app.broker_url import vhost_of
from waybill.celery_app.neighbours import neighbours
from waybill.check import (  # noqa: F401  (each registers its rules)
    arguments,
    declaring,
    delayed,
    delivering,
    duplicates,
    entries,
    existing,
    fleets,
    ignored,
    priorities,
    results,
    routes,
    safety,
    settings,
    sharing,
    testing,
    unroutable,
)
from waybill.check.facts import AppFacts, Facts, FleetFacts
from waybill.check.finding import NEEDS, RULES, Finding, Found, Need, Rule, Severity
from waybill.check.gather import facts_of, gather
from waybill.check.report import Report
from waybill.check.testing import MEMORY, is_rabbitmq
from waybill.check.wording import worded
from waybill.errors import InputError, UnknownName
from waybill.rabbitmq.state import LiveFacts, facts_at

__all__ = [
    "NEEDS",
    "RULES",
    "AppFacts",
    "Facts",
    "Finding",
    "FleetFacts",
    "Found",
    "LiveFacts",
    "Report",
    "Rule",
    "Severity",
    "check",
    "check_app",
    "facts_of",
    "find_rule",
    "gather",
]


def check_app(
    app: Celery,
    *,
    fleet: str | Path | Sequence[str | Path] | None = None,
    management: str | None = None,
    vhost: str | None = None,
    rabbitmq: tuple[int, int] | None = None,
    name: str | None = None,
    others: Sequence[str] = (),
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    accepted: Mapping[str, str] | None = None,
) -> Report:
    """Find the routing mistakes of an application, as `waybill check` does.

    Nothing is published and nothing is changed. Nobody is connected to without `management`, and then by GET only.

    Args:
        fleet: where the workers are described: a compose file, a Procfile, Kubernetes manifests, supervisor or systemd
            files, a folder of them, or several of these.
        management: the URL of the broker's management API, `http://user:password@host:15672`.
        vhost: the vhost to look at there; that of the application's broker by default.
        rabbitmq: RabbitMQ's version, such as `(4, 3)`; by default what the management API says.
        name: the application as `celery -A` takes it: the fleet's workers of other applications are asked for their
            tasks, each in a process of its own. Without it none are.
        others: other applications of the vhost, as `celery -A` takes them: their tasks and declarations count.
        select: codes, or how they begin (`WB1`); only these rules run. None means all of them.
        ignore: codes, or how they begin; these rules don't run.
        accepted: a code, or `code:object`, -> the reason for which its findings are left out.

    Raises:
        InputError: the fleet or a setting can't be read, a code is unknown, or an accepted code has no reason.
        BrokerUnavailable: the management API doesn't answer, or refuses.

    Example:
        >>> from celery import Celery
        >>> from kombu import Exchange, Queue
        >>> from waybill import check_app
        >>> app = Celery("shop")
        >>> app.conf.task_queues = [Queue("celery"), Queue("usa", Exchange("news", "topic"), "usa.#")]
        >>> @app.task(name="shop.report", exchange="news", routing_key="us.sports")
        ... def report(): ...
        >>> found = check_app(app, select=["WB105"])
        >>> for finding in found.findings:
        ...     print(finding.rule.code, *finding.found.objects)
        WB105 shop.report news
    """
    app.loader.import_default_modules()
    app.finalize()
    live = None if management is None else facts_at(management, vhost or vhost_of(app))
    paths = [fleet] if isinstance(fleet, str | Path) else fleet or ()
    facts = gather(
        app,
        name=name,
        fleet=[Path(path) for path in paths],
        others=neighbours(others, app=app),
        live=live,
        rabbitmq=rabbitmq,
    )
    return check(facts, select=select, ignore=ignore, accepted=accepted)


def check(
    facts: Facts,
    *,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    accepted: Mapping[str, str] | None = None,
) -> Report:
    """Run the rules over the facts.

    Args:
        select: codes, or how they begin (`WB1`); only these rules run. None means all of them.
        ignore: codes, or how they begin; these rules don't run.
        accepted: a code, or `code:object`, -> the reason for which its findings are left out.

    Raises:
        UnknownName: a code that no rule has.
        InputError: an accepted code without a reason.
    """
    holds = is_rabbitmq(facts.app.transport) or facts.app.transport == MEMORY
    chosen = [rule for rule in _chosen(select, ignore) if holds or rule.any_broker]
    accepted = _reasoned(accepted or {})
    fleet = facts.fleet
    if not facts.has("fleet"):  # of one in which no worker could be read, nothing is known but that
        facts = replace(facts, fleet=None)
    findings: list[Finding] = []
    left_out: list[tuple[Finding, str]] = []
    unchecked: dict[Need, tuple[str, ...]] = {}
    for rule in chosen:
        missing = [need for need in rule.needs if not facts.has(need)]
        if missing:
            for need in missing:
                unchecked[need] = (*unchecked.get(need, ()), rule.code)
            continue
        for found in rule.check(facts):
            reason = _reason(rule, found, accepted)
            if reason is None:
                findings.append(_located(facts, rule, found))
            else:
                left_out.append((_located(facts, rule, found), reason))
    findings.sort(key=lambda finding: (-finding.severity, finding.rule.code, finding.found.objects))
    ran = {rule.code for rule in chosen}.difference(*unchecked.values())
    later = tuple(rule for rule in chosen if not rule.is_of_this_celery)
    unused = _unused(accepted, left_out, ran)
    handlers = facts.app.handlers
    unread = () if fleet is None else (*map(str, fleet.unread), *fleet.unloaded.values())
    if facts.live is not None:
        unread = (*unread, *facts.live.unread)
    if "django_celery_beat" in str(facts.app.conf.beat_scheduler):
        unread = (*unread, "the schedule of django_celery_beat, which is in the database")
    return Report(
        findings=tuple(findings),
        left_out=tuple(left_out),
        unchecked=unchecked,
        ran_of=len(chosen),
        unused=unused,
        later=later,
        handlers=handlers,
        unread=unread,
        unrouted=_unrouted(facts),
        source=facts.app.source,
    )


def _unrouted(facts: Facts) -> tuple[str, ...]:
    """On which tasks a router of the application's failed, unless a call with arguments was routed."""
    routed = {sent.task for sent in facts.app.sent if sent.where and sent.publication is not None}
    return tuple(dict.fromkeys(sent.refusal for sent in facts.app.sent if sent.is_unrouted and sent.task not in routed))


def find_rule(code: str) -> Rule:
    """The rule of this code.

    Raises:
        UnknownName: there is none.
    """
    if code not in RULES:
        raise UnknownName("rule", code, RULES, "waybill check --list")
    return RULES[code]


def _chosen(select: Collection[str], ignore: Collection[str]) -> list[Rule]:
    for prefix in (*select, *ignore):
        if not any(code.startswith(prefix) for code in RULES):
            raise UnknownName("rule", prefix, RULES, "waybill check --list")
    return [
        rule
        for code, rule in sorted(RULES.items())
        if (not select or code.startswith(tuple(select))) and not (ignore and code.startswith(tuple(ignore)))
    ]


def _unused(accepted: Mapping[str, str], left_out: Sequence[tuple[Finding, str]], ran: Set[str]) -> tuple[str, ...]:
    """What is ignored of rules that ran, and isn't found."""
    found = {name for finding, _ in left_out for name in _names(finding.rule, finding.found)}
    return tuple(name for name in accepted if name.partition(":")[0] in ran and name not in found)


def _reasoned(accepted: Mapping[str, str]) -> Mapping[str, str]:
    for name, reason in accepted.items():
        find_rule(name.partition(":")[0])
        if not isinstance(reason, str) or not reason.strip():
            raise InputError(f'ignore of {name}: got no reason, expected {name} = "why this is meant to be"')
    return accepted


def _located(facts: Facts, rule: Rule, found: Found) -> Finding:
    """The finding with its fix in the application's words; where no call is at fault, it stands where its task does.

    About a task that perhaps nobody sends it is a note.
    """
    found = replace(found, fix=worded(facts, found.fix))
    task = facts.app.tasks.get(found.objects[0])
    if task is None:
        return Finding(rule, found)
    severity = Severity.NOTE if facts.app.is_unasked(task.name) else found.severity
    return Finding(rule, replace(found, where=found.where or task.where, severity=severity))


def _reason(rule: Rule, found: Found, accepted: Mapping[str, str]) -> str | None:
    return next((accepted[name] for name in _names(rule, found) if name in accepted), None)


def _names(rule: Rule, found: Found) -> tuple[str, ...]:
    """How a finding may be named to be ignored, the narrowest first."""
    return (*(f"{rule.code}:{name}" for name in found.objects), rule.code)
