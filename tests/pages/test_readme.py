"""README and lessons cannot rot: their commands print what they show, their files and pictures are those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from publishers.__main__ import TOUR
from tests.support.programs import ROOT
from tests.support.showcase import Lessons, Showcase
from tools import architecture_page
from tools.readme import FILE, LESSONS, README, Example, code_of, examples

DOCS = [page for page in sorted((ROOT / "docs").rglob("*.md")) if ".pytest_cache" not in page.parts]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "examples").rglob("*.md")), *DOCS]

# Lines that a newcomer reads before there is more to click on than to read.
README_LINES = 150


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.command)
def test_a_command_prints_what_the_page_shows(
    example: Example, showcase: Showcase, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYBILL_BROKER_URL", showcase.address.url)
    printed = lessons[example.lesson].result.out if example.lesson else example.now()
    assert example.is_shown_by(printed), printed


def test_the_readme_is_short_and_shows_each_of_the_ways_in() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_LINES
    shown = [example.command for example in examples() if example.folder == "examples/routing_test"]
    assert [command.split()[3] for command in shown] == ["topology", "check", "explain"]


def test_the_readmes_file_is_the_one_that_exists() -> None:
    (found,) = FILE.finditer(README.read_text(encoding="utf-8"))
    assert found["shown"] == code_of(found["path"])


def test_every_lesson_is_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in LESSONS.glob("*.md"))
    for _, lesson in TOUR:
        assert f"$ python -m {lesson.__module__}" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+\.md)", index.read_text("utf-8"))}
    assert {*DOCS} - {index} <= linked


def test_the_architecture_page_is_made_of_the_order_of_imports() -> None:
    assert architecture_page.PAGE.read_text("utf-8") == architecture_page.page(), (
        "run python -m tools.architecture_page"
    )


def test_the_plugins_page_has_every_fixture() -> None:
    text = (ROOT / "docs" / "reference" / "plugin.md").read_text("utf-8")
    source = (ROOT / "waybill" / "pytest_plugin" / "__init__.py").read_text("utf-8")
    fixtures = re.findall(r"@pytest\.fixture\(scope=\"(\w+)\"\)\ndef (\w+)", source)
    assert set(re.findall(r"^\| `(waybill_\w+)` \| (\w+)", text, re.MULTILINE)) == {
        (name, scope) for scope, name in fixtures
    }
