"""A report as SARIF 2.1.0, which code scanning services read."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from waybill.check.baseline import fingerprint
from waybill.check.finding import Finding, Rule, Severity
from waybill.check.report import Report
from waybill.topology.text import printable

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def sarif(report: Report) -> dict[str, Any]:
    """The report as a SARIF log with one run; paths are relative to the current folder."""
    rules = list({finding.rule.code: finding.rule for finding in report.findings}.values())
    at = {rule.code: index for index, rule in enumerate(rules)}
    driver = {"name": "waybill", "version": version("waybill"), "rules": list(map(_rule, rules))}
    unread = [{"level": "note", "message": {"text": printable(f"not read: {one}")}} for one in report.unread]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": unread}],
                "results": [_result(finding, at[finding.rule.code]) for finding in report.findings],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": f"{rule.symptom} {rule.cause}"},
        "help": {"text": f"Failing:\n\n{rule.failing}\n\nFixed:\n\n{rule.fixed}\n\nSource: {rule.source}"},
        "helpUri": rule.source,
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(finding: Finding, index: int) -> dict[str, Any]:
    found = finding.found
    path, _, line = found.where.rpartition(":")
    place = {"artifactLocation": {"uri": quote(path)}, "region": {"startLine": int(line)}} if line.isdecimal() else None
    return {
        "ruleId": finding.rule.code,
        "ruleIndex": index,
        "level": LEVELS[finding.severity],
        "message": {"text": printable(f"{', '.join(found.objects)}: {found.text}. Fix: {found.fix}")},
        "locations": [{"physicalLocation": place}] if place else [],
        "partialFingerprints": {"waybill/v1": fingerprint(finding)},
    }
