"""What the matrix is made of, and its table: which Python and Celery the tests passed on, where and when.

A session of noxfile.py notes each suite's JUnit report and the installed versions in build/matrix/. The table is made
of these notes alone, so that it says nothing of what hasn't run.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
NOTES = ROOT / "build" / "matrix"
README = ROOT / "README.md"
BEGIN, END = "<!-- versions -->", "<!-- /versions -->"

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LINES = ("5.3", "5.4", "5.5", "5.6", "5.7")
LOWEST = "lowest"
EXTRAS = "test"
"""The extra of pyproject.toml that the tests need, without linters."""

SUITES = {"unit": ("-m", "unit"), "plugin": ("tests/workers/test_pytest_plugin.py",)}
"""What every supported version must pass, and how pytest is told: no socket beyond this machine, no Docker."""

OUTCOMES = ("passed", "failed", "skipped")


def floors(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """The lowest versions that pyproject.toml allows, each as `name==version`, of what the tests need.

    Raises:
        ValueError: a requirement has no floor of the form `name>=version`.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    own = f"{project['name']}["
    pinned: list[str] = []
    waiting = [*project["dependencies"], *extras[EXTRAS]]
    for requirement in waiting:
        if requirement.startswith(own):
            waiting.extend(line for extra in requirement[len(own) : -1].split(",") for line in extras[extra])
            continue
        name, separator, floor = requirement.partition(">=")
        if not separator or not floor.replace(".", "").isdigit():
            raise ValueError(f"{pyproject.name}: expected name>=version, got {requirement!r}")
        pinned.append(f"{name}=={floor}")
    return pinned


@dataclass(frozen=True, slots=True)
class Note:
    """What is noted of one session, in a folder of its own."""

    python: str
    line: str
    notes: Path = NOTES

    @property
    def folder(self) -> Path:
        return self.notes / f"{self.python}-{self.line}"

    def clear(self) -> None:
        """Forget an earlier run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def report(self, suite: str) -> Path:
        """Where pytest writes its JUnit report of a suite."""
        return self.folder / f"{suite}.xml"

    def installed(self) -> None:
        """Note the versions in this environment, and where and when."""
        kept = {name: version(name) for name in ("celery", "kombu", "amqp", "pytest")}
        machine = f"{platform.system()} {platform.machine()}"
        (self.folder / "session.json").write_text(
            json.dumps({"versions": kept, "machine": machine, "date": f"{datetime.now(UTC):%Y-%m-%d}"})
        )

    def counts(self, suite: str) -> Counter[str]:
        """Passed, failed and skipped tests; none when the suite wrote no report."""
        report = self.report(suite)
        return counts(report.read_text(encoding="utf-8")) if report.is_file() else Counter()

    def passed(self, suite: str) -> bool:
        """Whether tests ran and none failed."""
        found = self.counts(suite)
        return bool(found["passed"]) and not found["failed"]


def counts(report: str) -> Counter[str]:
    """The outcomes in a JUnit report; an error counts as a failure."""
    found: Counter[str] = Counter()
    for case in ElementTree.fromstring(report).iter("testcase"):
        kinds = {child.tag for child in case}
        found["failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"] += 1
    return found


def table(notes: Path = NOTES) -> str:
    """All that ran, as a table of Markdown: a row a line of Celery, a column a Python."""
    header = ["Celery and Kombu", *(f"Python {python}" for python in PYTHONS)]
    rows = [header, ["---"] * len(header)]
    for line in (*LINES, LOWEST):
        sessions = [Note(python, line, notes) for python in PYTHONS]
        told = [_read(note) for note in sessions]
        versions = next((one["versions"] for one in told if one), {})
        exact = f"{line} ({versions['celery']} and {versions['kombu']})" if versions else line
        rows.append([exact, *(_cell(note, one is not None) for note, one in zip(sessions, told, strict=True))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{_where(notes)}"


def _read(note: Note) -> dict[str, dict[str, str]] | None:
    session = note.folder / "session.json"
    return json.loads(session.read_text(encoding="utf-8")) if session.is_file() else None


def _cell(note: Note, has_run: bool) -> str:
    if not has_run:
        return "-" if note.line == LOWEST and note.python != PYTHONS[0] else "not run"
    found = sum((note.counts(suite) for suite in SUITES), Counter[str]())
    counted = [f"{found[outcome]:,} {outcome}" for outcome in OUTCOMES if found[outcome]]
    broken = [f"{suite} tests: no report" for suite in SUITES if not note.report(suite).is_file()]
    return ", ".join(counted + broken) or "no tests"


def _where(notes: Path) -> str:
    runs = sorted(
        {
            (told["date"], told["machine"])
            for session in notes.glob("*/session.json")
            for told in [json.loads(session.read_text(encoding="utf-8"))]
        }
    )
    if not runs:
        return "Nothing has run yet."
    on = "; ".join(
        f"{date} on {', '.join(machine for _, machine in group)}" for date, group in groupby(runs, lambda r: r[0])
    )
    return (
        f"Run by `make matrix` ({on}) on the embedded broker. "
        "*Not run*: that session has not been run, or its Python wasn't installed."
    )


def write_table(readme: Path = README, notes: Path = NOTES) -> str:
    """Write the table into README.md between its markers, and return it.

    Raises:
        ValueError: the markers aren't there.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme.name}: expected {BEGIN} and {END}, found neither or one")
    made = table(notes)
    readme.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")
    return made


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["note", python, line]:
            Note(python, line).installed()
        case ["table"]:
            print(write_table())
        case _:
            sys.exit("usage: python -m tools.matrix table | note PYTHON LINE")
