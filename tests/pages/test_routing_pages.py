"""The how-to pages about routing tests: their first project, written as they show it, runs."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.programs import ROOT
from tests.support.pytest_runs import run_pytest, write

# What the page's project has: the application that its first lines name.
PROJECT = {
    "proj/__init__.py": "",
    "proj/app.py": """
        from celery import Celery
        from kombu import Exchange, Queue

        news = Exchange("news", type="topic")
        app = Celery("proj", include=["proj.tasks"])
        app.conf.task_queues = [Queue("usa_all", news, "usa.#"), Queue("all_news", news, "*.news")]
    """,
    "proj/tasks.py": """
        from proj.app import app

        @app.task
        def report(headline): ...
    """,
}


def blocks(page: str) -> dict[str, list[str]]:
    """The page's code blocks, by what their first line says: a file's name, or nothing."""
    text = (ROOT / "docs" / "how-to" / page).read_text("utf-8")
    found: dict[str, list[str]] = {}
    for code in re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        named = re.match(r"# ([\w./]+)\n", code)
        found.setdefault(named[1] if named else "", []).append(code)
    return found


def test_the_first_test_of_the_page_passes(tmp_path: Path) -> None:
    files = {name: codes[0] for name, codes in blocks("test-routing.md").items() if name}
    done = run_pytest(write(tmp_path, {**PROJECT, **files}))
    assert done.counts == {"passed": 1}, done.text
    lines = [line for name in ("pyproject.toml", "test_routing.py") for line in files[name].splitlines() if line]
    assert len(lines) <= 10


def test_its_fleet_is_one(tmp_path: Path) -> None:
    found = blocks("test-routing.md")
    configuration = found["pyproject.toml"][0] + next(code for code in found[""] if code.startswith("waybill_fleet"))
    test = "import pytest\n\n" + next(code for code in found[""] if "waybill_workers" in code)
    files = {"pyproject.toml": configuration, "Procfile": found["Procfile"][0], "test_routing.py": test}
    done = run_pytest(write(tmp_path, {**PROJECT, **files}))
    assert done.counts == {"passed": 1}, done.text


def test_a_failing_assertion_looks_as_the_page_says(tmp_path: Path) -> None:
    found = blocks("test-routing.md")
    shown = next(code for code in found[""] if code.startswith("E  "))
    test = found["test_routing.py"][0].replace("usa.news", "usa.weather")
    files = {"pyproject.toml": found["pyproject.toml"][0], "test_routing.py": test}
    done = run_pytest(write(tmp_path, {**PROJECT, **files}))
    assert done.counts == {"failed": 1}, done.text
    printed = {re.sub(r"^E +", "", line) for line in done.text.splitlines()}
    wanted = [re.sub(r"^E +", "", line) for line in shown.splitlines()]
    assert [line for line in wanted if line.strip("E ") and line not in printed] == []
