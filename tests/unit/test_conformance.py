"""The tools of the generated comparison, and what they show without a broker."""

from __future__ import annotations

import datetime
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.support.cases import case as case_module
from tests.support.cases.case import Case
from tests.support.engine import declare, run_on_engine
from tools.conformance.compare import MESSAGES
from tools.conformance.generate import make_case
from tools.conformance.row import as_row
from tools.conformance.shrink import shrink
from waybill import topology
from waybill.errors import TopologyError
from waybill.routing import Router
from waybill.topology import Message

SEED = 20261122


@pytest.mark.parametrize("number", range(40))
def test_route_and_trace_give_the_same_queues(number: int) -> None:
    made = make_case(SEED, number, MESSAGES)
    router = router_of(made)
    for message in made.publish:
        try:
            queues = router.route(message)
        except TopologyError:
            continue
        assert sorted(router.trace(message).queues) == sorted(queues) == sorted(router.route(message))


def router_of(made: Case) -> Router:
    """A router with what of the case's declarations is not refused."""
    router = Router()
    for item in made.declare:
        with suppress(TopologyError):
            declare(router, item)
    return router


def test_the_same_seed_makes_the_same_case_and_another_does_not() -> None:
    assert make_case(1, 2, 50) == make_case(1, 2, 50)
    assert make_case(1, 2, 50) != make_case(1, 3, 50) != make_case(2, 3, 50)


@pytest.mark.parametrize("number", range(5))
def test_a_case_is_printed_as_source_that_makes_it_again(number: int) -> None:
    made = make_case(SEED, number, 20)
    made = replace(made, expect=run_on_engine(made))
    names = {**vars(topology), **vars(case_module), "datetime": datetime, "Decimal": Decimal}
    assert eval(as_row(made), names) == made


def test_shrinking_leaves_only_what_matters() -> None:
    made = make_case(SEED, 0, MESSAGES)
    wanted = made.publish[17]
    smallest = shrink(made, lambda case: wanted.exchange in {message.exchange for message in case.publish})
    assert smallest.declare == ()
    assert smallest.publish == (Message(wanted.exchange),)
