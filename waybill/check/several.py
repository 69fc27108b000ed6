"""A check of several applications of one vhost: each is checked beside the others, and the reports become one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from waybill.celery_app.apart import apart
from waybill.celery_app.loading import load_application
from waybill.celery_app.neighbours import neighbours
from waybill.check import check, gather
from waybill.check.finding import Finding
from waybill.check.report import Report
from waybill.rabbitmq.state import LiveFacts


@dataclass(frozen=True, slots=True)
class Question:
    """What a check is told, in a form that another process can be given.

    Attributes:
        folders: where applications are looked for first.
        chosen: `select`, `ignore` and `accepted` of `check`.
    """

    folders: tuple[Path, ...] = ()
    fleet: tuple[Path, ...] = ()
    ignored: tuple[str, ...] = ()
    live: LiveFacts | None = None
    rabbitmq: tuple[int, int] | None = None
    chosen: dict[str, Any] = field(default_factory=dict)


def check_beside(name: str, others: Sequence[str], asked: Question) -> Report:
    """Check one application in a process of its own.

    Raises:
        InputError: it, or one of the others, can't be loaded; or another error of `check`.
    """
    return apart(_check, name, others, asked)


def _check(name: str, others: Sequence[str], asked: Question) -> Report:
    app = load_application(name, asked.folders)
    facts = gather(
        app,
        name=name,
        fleet=asked.fleet,
        ignored=asked.ignored,
        others=neighbours(others, asked.folders, app, name),
        live=asked.live,
        rabbitmq=asked.rabbitmq,
    )
    return check(facts, **asked.chosen)


def together(reports: dict[str, Report]) -> Report:
    """One report of several, whose findings name their application; a finding of two is told once.

    Args:
        reports: application -> its report.
    """
    first, *_ = reports.values()
    findings = sorted(_findings(reports), key=lambda one: (-one.severity, one.rule.code, one.found.objects))
    sources = [report.source for report in reports.values()]
    source = replace(
        first.source,
        files=max(one.files for one in sources),
        calls=tuple({call.where: call for one in sources for call in one.calls}.values()),
        not_literal=_all(one.not_literal for one in sources),
        unreadable=_all(one.unreadable for one in sources),
    )
    unused = [set(report.unused) for report in reports.values()]
    return replace(
        first,
        findings=tuple(findings),
        left_out=tuple(one for report in reports.values() for one in report.left_out),
        unused=tuple(name for name in first.unused if all(name in one for one in unused)),
        handlers=_all(report.handlers for report in reports.values()),
        unread=_all(report.unread for report in reports.values()),
        unrouted=_all(report.unrouted for report in reports.values()),
        source=source,
    )


def _findings(reports: dict[str, Report]) -> Iterator[Finding]:
    seen = set()
    for name, report in reports.items():
        for finding in report.findings:
            if (finding.rule.code, finding.found) not in seen:
                seen.add((finding.rule.code, finding.found))
                yield replace(finding, application=name)


def _all(parts: Iterator[tuple[str, ...]]) -> tuple[str, ...]:
    """What is in any of them, each once, in order."""
    return tuple(dict.fromkeys(one for part in parts for one in part))
