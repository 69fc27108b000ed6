"""The case table, asked of waybill's engine and of a live RabbitMQ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.cases.case import Case, Outcome
from tests.support.cases.table import CASES
from tests.support.engine import run_on_engine
from tests.support.live import run_on_broker

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
