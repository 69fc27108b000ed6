"""The README cannot rot: its commands print what it shows, and its picture is what is declared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from publishers.__main__ import TOUR
from tests.support.programs import ROOT
from tests.support.showcase import Lessons, Showcase
from tools.readme import README, Example, examples

PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.command)
def test_a_command_prints_what_the_readme_shows(
    example: Example, showcase: Showcase, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYBILL_BROKER_URL", showcase.address.url)
    printed = lessons[example.lesson].result.out if example.lesson else example.now()
    assert example.is_shown_by(printed), printed


def test_there_is_one_picture() -> None:
    assert [example.command for example in examples() if example.shown.startswith("flowchart")] == [
        "waybill -A worker topology --format mermaid --no-fleet"
    ]


def test_every_lesson_is_in_the_readme() -> None:
    for _, lesson in TOUR:
        assert f"$ python -m {lesson.__module__}" in TEXT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
