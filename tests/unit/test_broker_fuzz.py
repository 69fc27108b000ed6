"""A million broken and whole frames in every run; `python -m tools.fuzz` sends more."""

from __future__ import annotations

import pytest

from tools.fuzz import fuzz

FRAMES = 500_000
"""For each seed; ten seconds of one core."""


@pytest.mark.parametrize("seed", [1, 2])
def test_broken_frames_never_break_the_broker(seed: int) -> None:
    assert fuzz(FRAMES, seed) >= FRAMES
