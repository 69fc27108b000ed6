"""Every rule's own examples: the failing one gives the finding, with the values in it, the fixed one gives none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import check_example
from waybill.check import RULES, Finding, Severity, check

# code -> objects that the finding names, and a piece of its text
SAID: dict[str, tuple[tuple[str, ...], str]] = {}


def findings(code: str, example: str, folder: Path) -> tuple[Finding, ...]:
    return check(check_example.facts(check_example.load(example, folder), folder), select=[code]).findings


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


@pytest.mark.parametrize("code", sorted(RULES))
def test_the_failing_example_fails(code: str, tmp_path: Path) -> None:
    found = findings(code, RULES[code].failing, tmp_path)
    assert found
    print([f.found for f in found])


@pytest.mark.parametrize("code", sorted(RULES))
def test_the_fixed_example_is_clean(code: str, tmp_path: Path) -> None:
    module = check_example.load(RULES[code].fixed, tmp_path)
    report = check(check_example.facts(module, tmp_path))
    assert [f for f in report.findings if f.rule.code == code] == []
    print([f"{f.rule.code} {f.found.text}" for f in report.findings if f.severity > Severity.NOTE])
