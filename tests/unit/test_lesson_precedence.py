"""Which routing option is heard, as Celery answers it."""

from __future__ import annotations

import pytest

from publishers.support.routing_sources import Case, between, ranked, undecided
from tests.support.lessons import RANKS
from tests.support.programs import ROOT, call
from waybill.celery_app import installed


def test_celery_is_asked_who_is_heard() -> None:
    assert [(who, case.ask().routing_key) for who, case in ranked()] == [(who, queue) for who, queue, _ in RANKS]


# Two entries of `task_routes` -> which is taken in one mapping, in a list
PAIRS = (
    (("exact name", "glob"), "exact name", "the first"),
    (("exact name", "regular expression"), "exact name", "the first"),
    (("glob", "regular expression"), "the first", "the first"),
    (("exact name", "function"), None, "the first"),
)


@pytest.mark.parametrize(("kinds", "in_mapping", "in_list"), PAIRS)
def test_two_routes_of_one_task(kinds: tuple[str, str], in_mapping: str | None, in_list: str) -> None:
    if in_mapping is not None:
        assert between(kinds, is_list=False) == in_mapping
    assert between(kinds, is_list=True) == in_list


def test_a_function_that_returns_none_leaves_the_task_to_the_next() -> None:
    assert Case(routes=[undecided, {"worker.*": "videos"}]).ask().routing_key == "videos"


@pytest.mark.skipif(
    not installed.since((5, 7)),
    reason=f"the document tells Celery 5.7's answers; {installed.CELERY_VERSION} is installed",
)
def test_the_document_is_what_celery_answers() -> None:
    result = call("tools.routing_options_page")
    assert (result.code, result.err) == (0, "")
    assert result.out == (ROOT / "docs" / "reference" / "routing-options.md").read_text(encoding="utf-8")
