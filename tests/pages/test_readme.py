"""The README cannot rot: its commands print what it shows, and its picture is what is declared."""

from __future__ import annotations

import re

import pytest

from publishers.__main__ import TOUR
from tests.support.programs import ROOT
from tools.readme import README, Example, examples
from waybill.delivery import Watch
from waybill.provision import Address

TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.command)
def test_a_command_prints_what_the_readme_shows(
    example: Example, waybill_vhost: Address, waybill_watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waybill_watch.crew
    monkeypatch.setenv("WAYBILL_BROKER_URL", waybill_vhost.url)
    printed = example.now()
    assert example.is_shown_by(printed), printed


def test_there_is_one_picture() -> None:
    assert [example.command for example in examples() if example.shown.startswith("flowchart")] == [
        "waybill -A worker topology --format mermaid --no-fleet"
    ]


def test_every_lesson_is_in_the_readme() -> None:
    for _, lesson in TOUR:
        assert f"$ python -m {lesson.__module__}" in TEXT


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
