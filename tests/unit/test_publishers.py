"""The publishers as programs, without a broker."""

from __future__ import annotations

import pytest

from tests.support.lessons import PROGRAMS
from tests.support.programs import call


@pytest.mark.parametrize("name", [*sorted({program for program, _, _ in PROGRAMS}), "priority", "shards", "__main__"])
def test_help(name: str) -> None:
    result = call(f"publishers.{name}", "--help")
    assert result.code == 0
    assert result.out.startswith("Usage: python -m publishers")
    assert "--broker" in result.out
    assert "--json" in result.out
