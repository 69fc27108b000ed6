"""How the lesson about queues counts and draws."""

from __future__ import annotations

import pytest

from publishers.celery.queues import at_once
from publishers.support.charts import bar, profile
from publishers.support.runs import Run

# Value, the most, width -> the bar
BARS = (
    (0, 10, 10, ""),
    (10, 10, 10, "██████████"),
    (5, 10, 10, "█████"),
    (5, 8, 1, "▋"),
    (0.001, 10, 10, "▏"),
    (20, 10, 3, "███"),
    (1, 0, 10, ""),
    (-1, 10, 10, ""),
)


@pytest.mark.parametrize(("value", "most", "width", "expected"), BARS)
def test_bars(value: float, most: float, width: int, expected: str) -> None:
    assert bar(value, most, width) == expected


def test_a_profile_has_one_character_for_each_value() -> None:
    assert profile([8, 4, 1, 0], 8) == "█▌▏ "


def test_naps_that_follow_each_other_are_not_at_once() -> None:
    def nap(done: float) -> Run:
        return Run("", "", "", returned=0.5, published=0.0, received=0.0, done=done)

    assert at_once([nap(1.0), nap(1.5), nap(2.0)]) == 1
    assert at_once([nap(1.0), nap(1.25), nap(1.375)]) == 3
    assert at_once([nap(1.0), nap(1.25), nap(1.625)]) == 2
