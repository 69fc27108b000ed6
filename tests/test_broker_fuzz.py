"""Broken frames, as many as fit into half a minute; `python -m tests.fuzz` sends more."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz

FRAMES = 1_000_000
SECONDS = 15.0


@pytest.mark.parametrize("seed", [1, 2])
def test_broken_frames_never_break_the_broker(seed: int) -> None:
    assert fuzz(FRAMES, seed, SECONDS) > 1000
