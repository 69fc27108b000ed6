"""Broken and whole frames in every run; `python -m tools.fuzz` sends millions."""

from __future__ import annotations

import pytest

from tests.support.shares import FRAMES, FRAMES_SEEDS
from tools.fuzz import fuzz


@pytest.mark.parametrize("seed", FRAMES_SEEDS)
def test_broken_frames_never_break_the_broker(seed: int) -> None:
    assert fuzz(FRAMES, seed) >= FRAMES
