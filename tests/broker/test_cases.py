"""The whole case table on the embedded broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cases.case import Case
from tests.support.cases.table import CASES
from tests.support.live import LiveBroker
from tools.conformance.compare import Comparison
from tools.conformance.row import as_row
from waybill.broker import Broker

SEED = 20261122
GENERATED = 4000


@pytest.fixture(scope="module")
def embedded() -> Iterator[LiveBroker]:
    with Broker() as broker, LiveBroker(broker.url) as connection:
        yield connection


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.claim)
def test_the_row_holds(case: Case, embedded: LiveBroker) -> None:
    assert embedded.run(case) == case.expect, f"{case.claim} ({case.source})"


def test_the_router_and_the_embedded_broker_agree_on_generated_cases(embedded: LiveBroker) -> None:
    comparison = Comparison(embedded, SEED)
    comparison.run(GENERATED)
    assert not comparison.disagreements, as_row(comparison.disagreements[0])
    assert comparison.counts["messages"] == GENERATED
