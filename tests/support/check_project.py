"""An application in a file, checked as people check it: with the command."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import _state

from tests.support import check_example
from tests.support.programs import Result, call

# An error, a warning and a note.
PROJECT = """
app.conf.task_queues = [Queue("celery"), Queue("usa", Exchange("news", "topic"), "usa.#")]
app.conf.task_rutes = {}
app.conf.task_routes = {"elsewhere.*": {"queue": "usa"}}

@app.task(name="proj.report")
def report(): ...

def later():
    report.apply_async(exchange="news", routing_key="us.weather")
"""
CLEAN = '\n@app.task(name="proj.index")\ndef index(): ...\n'

_numbers = itertools.count()


def project_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What writes an application, and perhaps a pyproject.toml, into a folder, which becomes the current one."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    celerys = {give for give in _state._on_app_finalizers if give.__module__ == "celery.app.builtins"}
    monkeypatch.setattr(_state, "_on_app_finalizers", celerys)

    def write(code: str = PROJECT, configuration: str = "") -> str:
        name = f"waybill_project_{next(_numbers)}"
        (folder / f"{name}.py").write_text(check_example.PRELUDE + code)
        if configuration:
            (folder / "pyproject.toml").write_text(configuration.replace("$APP", name))
        return name

    return write


def run(name: str | None, *arguments: str) -> Result:
    """`waybill -A name check ...`."""
    return call("waybill.cli", *(("-A", name) if name else ()), "check", *arguments)
