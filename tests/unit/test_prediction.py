"""What differs from the prediction is found, and what doesn't is not."""

from __future__ import annotations

import pytest

from waybill.celery_app.publication import Publication, message_of
from waybill.routing import Router
from waybill.testing.delivery import Delivery
from waybill.testing.prediction import differences
from waybill.testing.receipts import Receipt
from waybill.topology import Binding, Exchange, Queue, Topology

ROUTER = Router.of(
    Topology(
        [Exchange("x", "direct"), Exchange("all", "fanout"), Exchange("dead", "fanout")],
        [
            Queue("a", arguments={"x-dead-letter-exchange": "dead"}),
            Queue("b"),
            Queue("graveyard"),
            Queue("bcast.all", auto_delete=True),
        ],
        [
            Binding("x", "a", "k"),
            Binding("x", "b", "k"),
            Binding("x", "b", "other"),
            Binding("dead", "graveyard"),
            Binding("all", "bcast.all"),
        ],
    )
)
CREW = {"w@h": {"a": "x", "graveyard": "dead", "bcast.1": "all"}, "v@h": {"b": "x", "bcast.2": "all"}}

# exchange, key, queues that gave a copy, returned -> what differs
OUTCOMES: tuple[tuple[str, str, tuple[str, ...], bool, tuple[str, ...]], ...] = (
    ("x", "k", ("a", "b"), False, ()),
    ("x", "k", ("a", "b", "graveyard"), False, ()),
    ("x", "k", ("a",), False, ("0 copies from b",)),
    ("x", "k", ("a", "b", "b"), False, ("2 copies from b",)),
    ("x", "other", ("b", "a"), False, ("a copy from a",)),
    ("x", "other", ("b", "graveyard"), False, ("a copy from graveyard",)),
    ("x", "nothing", (), True, ()),
    ("x", "nothing", ("b",), False, ("a copy from b", "not returned")),
    ("x", "other", (), True, ("returned", "0 copies from b")),
    ("all", "", ("bcast.1", "bcast.2"), False, ()),
    ("all", "", ("bcast.1",), False, ("0 copies from bcast.2",)),
)


def happened(exchange: str, key: str, queues: tuple[str, ...], is_returned: bool) -> Delivery:
    sent = Publication(exchange, key, {}, 0, None, "task", "id", is_returned)
    receipts = [Receipt("id", "task", "w@h", queue, exchange, key, 0, False, 0.0) for queue in queues]
    return Delivery(sent, tuple(receipts))


@pytest.mark.parametrize(("exchange", "key", "queues", "is_returned", "expected"), OUTCOMES)
def test_differences(
    exchange: str, key: str, queues: tuple[str, ...], is_returned: bool, expected: tuple[str, ...]
) -> None:
    delivery = happened(exchange, key, queues, is_returned)
    predicted = ROUTER.trace(message_of(delivery.publication))
    assert differences(ROUTER, predicted, delivery, CREW) == expected


def test_a_broadcast_without_workers_is_returned() -> None:
    delivery = happened("all", "", (), True)
    assert differences(ROUTER, ROUTER.trace(message_of(delivery.publication)), delivery, {}) == ()


def test_a_queue_without_workers_gives_no_copy() -> None:
    delivery = happened("x", "other", (), False)
    assert differences(ROUTER, ROUTER.trace(message_of(delivery.publication)), delivery, {}) == ()


def test_a_late_copy_is_expected() -> None:
    delivery = happened("x", "other", ("b", "a"), False)
    assert differences(ROUTER, ROUTER.trace(message_of(delivery.publication)), delivery, CREW, {"a"}) == ()
