"""A few hundred scripts on both brokers in every run; `python -m tools.differential` plays thousands.

What differs on purpose is not in the scripts: it stands in docs/embedded-broker.md.
"""

from __future__ import annotations

import time

from tools.differential.play import run
from tools.differential.scripts import Step, script

SCRIPTS = 250
SECONDS = 60.0
"""Scripts that have not begun by then are left out: a slow machine tests less, not longer."""

SEED = 20_000


def test_scripts_agree_with_rabbitmq(rabbitmq_url: str) -> None:
    played, disagreements = run(rabbitmq_url, range(SEED, SEED + SCRIPTS), stop_at=time.monotonic() + SECONDS)
    assert played > 0
    assert disagreements == []


def test_a_seed_makes_one_script() -> None:
    assert script(7) == script(7)
    assert script(7) != script(8)
    assert all(isinstance(step, Step) for step in script(7))
