"""The scripts that the comparison of the two brokers plays."""

from __future__ import annotations

from tools.differential.scripts import Step, script


def test_a_seed_makes_one_script() -> None:
    assert script(7) == script(7)
    assert script(7) != script(8)
    assert all(isinstance(step, Step) for step in script(7))
