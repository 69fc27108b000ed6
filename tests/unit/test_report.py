"""The report of the tests: a line for each reason to skip, and failures that fit a screen."""

from __future__ import annotations

import pytest

from tests.support import report

pytest_plugins = ["pytester"]

SKIPPING = f"""
import pytest

@pytest.mark.parametrize("number", range(3))
def test_docker(number):
    pytest.skip("{report.NO_DOCKER}nobody answers")

def test_alone():
    pytest.skip("not today")
"""

FAILING = """
import json

def test_wrong():
    for number in range(50):
        print("line", number)
    json.loads("{")
"""


def shown(pytester: pytest.Pytester, text: str) -> list[str]:
    """What pytest prints for this module."""
    pytester.makepyfile(text)
    done = pytester.runpytest_inprocess(
        "--tb=short", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", plugins=[report]
    )
    return list(done.outlines)


def test_skips_are_counted_by_reason(pytester: pytest.Pytester) -> None:
    lines = shown(pytester, SKIPPING)
    assert [line for line in lines if "Docker" in line] == ["3 tests need Docker: nobody answers"]
    assert "1 test skipped: not today" in lines
    assert not any("SKIPPED" in line for line in lines)


def test_a_failure_shows_our_frames_and_the_last_lines_of_what_was_printed(pytester: pytest.Pytester) -> None:
    lines = shown(pytester, FAILING)
    assert [line for line in lines if line.startswith("line ")] == [f"line {number}" for number in range(30, 50)]
    assert "[30 lines before]" in lines
    frames = [line.rpartition("/")[2] for line in lines if ": in " in line]
    assert len(frames) == 2, "the test and where the error was raised"
    assert frames[0].endswith("in test_wrong")
    assert frames[1].startswith("decoder.py")
    assert any(line.startswith("E   json.decoder.JSONDecodeError") for line in lines)
