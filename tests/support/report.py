"""Reports that fit a screen: skips as one line for each reason, a failure without other people's frames and logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

NO_DOCKER = "no Docker: "
"""What the reason begins with where a test is skipped for want of Docker."""

KEPT_LINES = 20
"""Lines of what a failed test printed or logged, the last ones."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each reason, with the number of tests that it skips."""
    reasons = Counter(_reason(one) for one in terminalreporter.stats.get("skipped", ()))
    for reason, count in reasons.most_common():
        tests = f"{count:,} test" + ("s" if count > 1 else "")
        if reason.startswith(NO_DOCKER):
            needs = "need" if count > 1 else "needs"
            terminalreporter.line(f"{tests} {needs} Docker: {reason.removeprefix(NO_DOCKER)}", yellow=True)
        else:
            terminalreporter.line(f"{tests} skipped: {reason}", yellow=True)


def _reason(report: Any) -> str:
    """Why a test was skipped, on one line."""
    _, _, reason = report.longrepr
    return " ".join(str(reason).removeprefix("Skipped: ").split())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Shorten what a failure shows."""
    made = yield
    if made.failed:
        made.sections = [(name, _last_lines(text)) for name, text in made.sections]
        for traceback, _, _ in getattr(made.longrepr, "chain", ()):
            _leave_ours(traceback)
    return made


def _last_lines(text: str) -> str:
    lines = text.splitlines(keepends=True)
    left_out = len(lines) - KEPT_LINES
    return text if left_out <= 0 else f"[{left_out} lines before]\n" + "".join(lines[-KEPT_LINES:])


def _leave_ours(traceback: Any) -> None:
    """Leave out the frames in libraries, but for the last, where the error is."""
    entries = traceback.reprentries
    if all(getattr(entry, "reprfileloc", None) for entry in entries):
        ours = [entry for entry in entries[:-1] if not _is_library(entry.reprfileloc.path)]
        traceback.reprentries = [*ours, *entries[-1:]]


def _is_library(path: str) -> bool:
    return "site-packages" in path or "/lib/python3" in path
