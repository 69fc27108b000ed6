"""The calls that are read in an application's code: what is certain is told, what isn't is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import check_example
from waybill.check import Facts, Report, check

PROJECT = """
app.conf.task_queues = [Queue("celery"), Queue("video")]

@app.task(name="proj.video")
def video(): ...

@app.task(name="proj.audio", priority={priority})
def audio(): ...
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


def facts(code: str, folder: Path, priority: object = None) -> Facts:
    return check_example.facts(check_example.load(PROJECT.format(priority=repr(priority)) + code, folder), folder)


def said(report: Report) -> list[str]:
    return [f"{finding.rule.code} {finding.found.text}" for finding in report.findings]


# A priority -> what its publication is refused with
PRIORITIES = (
    (5, None),
    (None, None),
    ("high", "expected a whole number of 0 to 255, got 'high'"),
    (2.5, "expected a whole number of 0 to 255, got 2.5"),
    (256, "expected a whole number of 0 to 255, got 256"),
    (-1, "expected a whole number of 0 to 255, got -1"),
)


@pytest.mark.parametrize(("priority", "refusal"), PRIORITIES)
def test_a_priority_that_cannot_be_written(priority: object, refusal: str | None, tmp_path: Path) -> None:
    """In a call and in a decorator."""
    called = facts(f"def later():\n    video.apply_async(priority={priority!r})\n", tmp_path)
    decorated = facts("", tmp_path, priority)
    for known in (called, decorated):
        found = check(known, select=["WB122"]).findings
        assert {one.found.text for one in found} == ({f"priority: {refusal}"} if refusal else set())


def test_a_header_that_cannot_be_written(tmp_path: Path) -> None:
    report = check(facts("def later():\n    video.apply_async(headers={'a': 1 + 1j})\n", tmp_path))
    assert said(report) == ["WB122 a complex cannot stand in an AMQP table: (1+1j)"]
    assert "headers of text" in report.findings[0].found.fix


# Options of a call -> whether it's passed over
OPTIONS = (
    ("queue='video'", False),
    ("headers={[1]: 2}", True),
    ("headers={'a': 1 + 1j}", False),
    ("headers={'a': tuple()}", True),
    ("countdown={[1]: 2}", False),
)


@pytest.mark.parametrize(("options", "is_passed_over"), OPTIONS)
def test_what_is_no_literal(options: str, is_passed_over: bool, tmp_path: Path) -> None:
    calls = facts(f"def later():\n    video.apply_async({options})\n", tmp_path).app.calls
    assert len(calls) == (not is_passed_over)


LAZY = """
class Lazy:
    def __getattribute__(self, name):
        raise RuntimeError(f"not set up yet: {name}")

lazy = Lazy()

def later():
    lazy.delay()
    lazy.inner.apply_async(queue="video")
    video.apply_async(queue="video")
"""


def test_an_object_that_is_not_set_up_yet(tmp_path: Path) -> None:
    assert [call.task for call in facts(LAZY, tmp_path).app.calls] == ["proj.video"]


# Code -> whether the call in it is that of the module's task
NAMES = (
    ("def f(): video.delay()", True),
    ("def f(audio): video.delay()", True),
    ("def f(video): video.delay()", False),
    ("def f(*video): video.delay()", False),
    ("def f(): video = object(); video.delay()", False),
    ("def f(): global video; video = video; video.delay()", True),
    ("def f(video): return lambda: video.delay()", False),
    ("f = lambda video: video.delay()", False),
    ("def f(): return [video.delay() for video in ()]", False),
    ("def f(): return [video.delay() for _ in ()]", True),
    ("def f():\n    from os import path as video\n    video.delay()", False),
    ("def f():\n    def g(video): ...\n    video.delay()", True),
    ("def f():\n    with open('x') as video: video.delay()", False),
    ("def f():\n    for video in (): video.delay()", False),
    ("def f(x):\n    match x:\n        case [*video]: video.delay()", False),
    ("def f(x):\n    try: x()\n    except OSError as video: video.delay()", False),
)


@pytest.mark.parametrize(("code", "is_ours"), NAMES)
def test_a_name_that_a_function_has_of_its_own(code: str, is_ours: bool, tmp_path: Path) -> None:
    assert [call.task for call in facts(code, tmp_path).app.calls] == ["proj.video"] * is_ours


def test_a_parameter_is_no_task(tmp_path: Path) -> None:
    known = facts("def later(video):\n    video.apply_async(queue='vidoe')\n", tmp_path)
    assert said(check(known)) == []
