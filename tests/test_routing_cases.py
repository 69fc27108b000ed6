"""The table of routing_cases.py, asked of waybill's engine and of a live RabbitMQ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.case import Case, Outcome
from tests.engine import run_on_engine
from tests.live import run_on_broker
from tests.routing_cases import CASES

Run = Callable[[Case], Outcome]


@pytest.fixture(params=["engine", "rabbitmq"])
def run(request: pytest.FixtureRequest) -> Run:
    """Who answers. A further broker that speaks AMQP is one more URL here."""
    if request.param == "engine":
        return run_on_engine
    url = request.getfixturevalue("rabbitmq_url")
    return lambda case: run_on_broker(url, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.claim)
def test_the_row_holds(case: Case, run: Run) -> None:
    assert run(case) == case.expect, f"{case.claim} ({case.source})"


def test_every_row_is_its_own_and_names_its_source() -> None:
    claims = Counter(case.claim for case in CASES)
    assert [claim for claim, count in claims.items() if count > 1] == []
    assert [case.claim for case in CASES if not case.source] == []
