"""A few scripts on both brokers in every run; `python -m tools.differential` plays thousands.

What differs on purpose is not in the scripts: it stands in docs/explanation/embedded-broker.md.
"""

from __future__ import annotations

from tests.support.shares import SCRIPTS, SCRIPTS_SEED
from tools.differential.play import run


def test_scripts_agree_with_rabbitmq(rabbitmq_url: str) -> None:
    played, disagreements = run(rabbitmq_url, range(SCRIPTS_SEED, SCRIPTS_SEED + SCRIPTS))
    assert played == SCRIPTS
    assert disagreements == []
