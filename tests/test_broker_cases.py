"""The whole table of routing_cases.py on the embedded broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.case import Case
from tests.conformance.compare import Comparison
from tests.conformance.row import as_row
from tests.live import LiveBroker
from tests.routing_cases import CASES
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
