"""The case table and generated cases, on the embedded broker and on RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.brokers import BROKERS, broker_url
from tests.support.cases.case import Case, Outcome
from tests.support.cases.table import CASES
from tests.support.engine import run_on_engine
from tests.support.live import LiveBroker
from tests.support.shares import GENERATED, GENERATED_SEED
from tools.conformance.compare import Comparison
from tools.conformance.row import as_row
from waybill.testing.brokers import existing
from waybill.topology import Message


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[LiveBroker]:
    """A connection to either broker, for all cases."""
    for url in broker_url(request):
        # RabbitMQ's sentences name the vhost; nobody else uses this one.
        with LiveBroker(existing(url).with_vhost("/").url) as connection:
            yield connection


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.claim)
def test_the_row_holds(case: Case, broker: LiveBroker) -> None:
    assert broker.run(case) == case.expect, f"{case.claim} ({case.source})"


def test_the_router_and_the_broker_agree_on_generated_cases(broker: LiveBroker) -> None:
    comparison = Comparison(broker, GENERATED_SEED)
    comparison.run(GENERATED)
    assert not comparison.disagreements, as_row(comparison.disagreements[0])
    assert comparison.counts["messages"] == GENERATED


def test_a_wrong_router_is_found_out_and_the_case_shrunk(broker: LiveBroker) -> None:
    comparison = Comparison(broker, GENERATED_SEED, ask=without_bcc)
    comparison.run(GENERATED)
    (smallest,) = comparison.disagreements
    assert len(smallest.publish) == 1
    assert list(smallest.publish[0].headers) == ["BCC"]
    assert len(smallest.declare) <= 3


def without_bcc(case: Case) -> Outcome:
    """The answer of a router that has never heard of BCC."""
    return run_on_engine(replace(case, publish=tuple(map(strip_bcc, case.publish))))


def strip_bcc(message: Message) -> Message:
    """The message without its header BCC."""
    return replace(message, headers={name: value for name, value in message.headers.items() if name != "BCC"})
