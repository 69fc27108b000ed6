"""What a check found, as text for people, as JSON, and as annotations of a workflow: pure strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from waybill.celery_app.calls.values import Source
from waybill.celery_app.installed import CELERY_VERSION
from waybill.check.finding import NEEDS, RULES, Finding, Need, Rule, Severity
from waybill.topology.text import printable

WORKFLOW_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}

MAX_PLACES = 5
"""Places in one line; `--json` gives all."""

MAX_OBJECTS = 4
"""Names in a finding's first line; `--json` gives all."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        findings: the worst first.
        left_out: what is meant to be, each with its reason.
        unchecked: what wasn't known -> the rules that would have needed it.
        ran_of: how many rules were chosen.
        unused: what is ignored and wasn't found, by its name in the configuration.
        later: the rules about something that the installed Celery doesn't have yet.
        handlers: the application's handlers of `before_task_publish`: not called, so what they change isn't known.
        unrouted: publications on which a router of the application's failed, each with what it raised.
        source: what of the project's source was read.
        unread: services of the fleet, and applications of its workers, that couldn't be read, each with the reason.
        known: the findings that stand in a baseline.
        gone: how many stand in a baseline and aren't found any more.
    """

    findings: tuple[Finding, ...]
    left_out: tuple[tuple[Finding, str], ...]
    unchecked: Mapping[Need, tuple[str, ...]]
    ran_of: int
    unused: tuple[str, ...] = ()
    later: tuple[Rule, ...] = ()
    handlers: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    unrouted: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)
    known: tuple[Finding, ...] = ()
    gone: int = 0

    def is_failed_at(self, severity: Severity) -> bool:
        """Whether anything found is at least so bad."""
        return any(finding.severity >= severity for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "ignored": [{**finding.to_json(), "reason": reason} for finding, reason in self.left_out],
            "known": [finding.to_json() for finding in self.known],
            "gone": self.gone,
            "unused": list(self.unused),
            "unchecked": [{"needs": NEEDS[need], "rules": list(codes)} for need, codes in self.unchecked.items()],
            "later": [{"celery": since(rule), "rule": rule.code} for rule in self.later],
            "handlers_not_called": list(self.handlers),
            "not_read": list(self.unread),
            "not_routed": list(self.unrouted),
            "read": {
                "files": self.source.files,
                "calls": self.source.found,
                "not_literal": list(self.source.not_literal),
                "unreadable": list(self.source.unreadable),
            },
        }


def text(report: Report) -> str:
    """Each finding in a few lines, then the sum of it, then what couldn't be checked."""
    blocks = ["\n".join(map(printable, _lines(finding))) for finding in report.findings]
    return "\n\n".join([*blocks, "\n".join(_summary(report))])


def _lines(finding: Finding) -> Iterator[str]:
    found = finding.found
    at = f"  {found.where}" if found.where else ""
    more = f" and {len(found.objects) - MAX_OBJECTS} more" if len(found.objects) > MAX_OBJECTS else ""
    of = f"  in {finding.application}" if finding.application else ""
    yield f"{finding.rule.code} {finding.severity.word}  {', '.join(found.objects[:MAX_OBJECTS])}{more}{at}{of}"
    yield f"  {found.text}"
    yield f"  fix: {found.fix}"
    yield f"  {finding.rule.source}"


def _summary(report: Report) -> Iterator[str]:
    left_out = f", {len(report.left_out)} ignored with a reason" if report.left_out else ""
    without = {code for codes in report.unchecked.values() for code in codes}
    count = len(report.findings)
    found = f"{count or 'no'} finding{'s' if count != 1 else ''}"
    known = f", {len(report.known)} in the baseline" if report.known else ""
    yield f"{found}{known}{left_out}; {report.ran_of - len(without)} rules checked"
    if report.gone:
        yield f"in the baseline and not found any more: {report.gone}; --write-baseline writes it anew"
    if report.unused:
        yield f"ignored and not found: {', '.join(report.unused)}"
    if without:
        needs = "; ".join(
            f"{len(codes)} {'rule needs' if len(codes) == 1 else 'rules need'} {NEEDS[need]}"
            for need, codes in report.unchecked.items()
        )
        yield f"not checked: {needs}"
    yield from map(printable, _read(report.source))
    for one in report.unrouted:
        yield printable(f"not checked: {one}; `waybill explain` takes the call's arguments with --args and --kwargs")
    for one in report.unread:
        yield printable(f"not read: {one}")
    if count := len(report.handlers):
        yield printable(
            f"not called: {count} before_task_publish handler{'s' if count != 1 else ''}, which may change headers and "
            f"with them a route: {', '.join(report.handlers)} (`waybill explain TASK --signals` calls them)"
        )
    for line in sorted({since(rule) for rule in report.later}):
        codes = ", ".join(rule.code for rule in report.later if since(rule) == line)
        yield f"of Celery {line} and later ({CELERY_VERSION} is installed, which doesn't do this): {codes}"


def _read(source: Source) -> Iterator[str]:
    """What of the source was read: no findings are worth as much as that."""
    literal = f", {len(source.not_literal)} not literal ({_some(source.not_literal)})" if source.not_literal else ""
    yield f"read {_counted(source.files, 'file')}: {_counted(source.found, 'call')}{literal}"
    if source.unreadable:
        yield f"not read: {_some(source.unreadable)}"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _some(places: Sequence[str]) -> str:
    more = f" and {len(places) - MAX_PLACES} more" if len(places) > MAX_PLACES else ""
    return ", ".join(places[:MAX_PLACES]) + more


def workflow(report: Report) -> str:
    """A workflow command a finding, as GitHub reads them from a job's output."""
    return "\n".join(map(_annotation, report.findings))


def _annotation(finding: Finding) -> str:
    path, _, line = printable(finding.found.where).rpartition(":")
    place = f"file={_property(path)},line={line}," if line.isdecimal() else ""
    found = finding.found
    message = "\n".join(map(printable, (f"{', '.join(found.objects)}: {found.text}", f"fix: {found.fix}")))
    return f"::{WORKFLOW_LEVEL[finding.severity]} {place}title={finding.rule.code}::{_data(message)}"


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def since(rule: Rule) -> str:
    """From which Celery on the rule applies, as `5.5`; empty for all."""
    return ".".join(map(str, rule.celery)) if rule.celery else ""


def listing() -> str:
    """Every rule in a line."""
    return "\n".join(
        f"{rule.code}  {rule.severity.word:<7}  {rule.title}{_needed(rule)}" for _, rule in sorted(RULES.items())
    )


def _needed(rule: Rule) -> str:
    return f"  (needs {', '.join(rule.needs)})" if rule.needs else ""


def explanation(rule: Rule) -> str:
    """All there is to say of a rule."""
    return "\n".join(
        [
            f"{rule.code} {rule.severity.word}  {rule.title}",
            "",
            f"symptom  {rule.symptom}",
            f"cause    {rule.cause}",
            *(f"needs    {NEEDS[need]}" for need in rule.needs),
            *([f"from     Celery {since(rule)} on"] if rule.celery else []),
            "",
            "failing",
            *(f"    {line}".rstrip() for line in rule.failing.splitlines()),
            "",
            "fixed",
            *(f"    {line}".rstrip() for line in rule.fixed.splitlines()),
            "",
            f"source   {rule.source}",
        ]
    )
