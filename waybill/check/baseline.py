"""A baseline: findings that were there before, so that only what is new makes a check fail.

A finding is known again by its rule, the names that it is about and its file. Neither the line nor the sentence counts:
both change when other code does.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from waybill.check.finding import Finding
from waybill.check.report import Report
from waybill.errors import InputError
from waybill.topology.documents import Entry, entries_of, kind_of

VERSION = 1


def fingerprint(finding: Finding) -> str:
    """What stays the same of a finding when lines move: 64 hexadecimal digits."""
    path = finding.found.where.rpartition(":")[0]
    words = json.dumps([finding.rule.code, *finding.found.objects, path])
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()


def written(findings: Iterable[Finding]) -> str:
    """The findings as a baseline file; each row says what it is about, for those who read the file's changes."""
    rows: list[dict[str, Any]] = [
        {"fingerprint": fingerprint(one), "code": one.rule.code, "objects": list(one.found.objects)} for one in findings
    ]
    rows.sort(key=lambda row: (row["code"], row["objects"], row["fingerprint"]))
    return json.dumps({"version": VERSION, "findings": rows}, indent=1) + "\n"


def read(path: Path) -> Counter[str]:
    """Fingerprint -> how often it stands in a baseline file.

    Raises:
        InputError: the file can't be read or is no baseline.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; --write-baseline makes a baseline file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        got = document.get("version") if isinstance(document, dict) else document
        raise InputError(f"{path}: expected a baseline of version {VERSION}, got {kind_of(got)}")
    return Counter(Entry(row, at).text("fingerprint") for row, at in entries_of(document, "findings", str(path)))


def beyond(report: Report, baseline: Counter[str]) -> Report:
    """The report with the findings that the baseline doesn't have; of equal ones as many as it has fewer of."""
    left = baseline.copy()
    new: list[Finding] = []
    known: list[Finding] = []
    for finding in report.findings:
        name = fingerprint(finding)
        (known if left[name] > 0 else new).append(finding)
        left[name] -= 1
    gone = sum(count for count in left.values() if count > 0)
    return replace(report, findings=tuple(new), known=tuple(known), gone=gone)
