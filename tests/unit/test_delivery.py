"""The proof of absence, as values."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from waybill.celery_app.names import MARKER
from waybill.errors import FleetError
from waybill.testing import watch
from waybill.testing.receipts import Receipt
from waybill.testing.roll_call import arguments_of
from waybill.testing.rounds import Round
from waybill.testing.watch import Watch


def answer(worker: str, queue: str) -> Receipt:
    return Receipt("id", MARKER, worker, queue, "", queue, 0, False, 0.0)


def test_a_round_ends_when_every_consumer_of_every_queue_has_answered() -> None:
    current = Round({"a@h": ["q", "own"], "b@h": ["q"]})
    assert sorted(current.markers()) == ["own", "q", "q"]
    assert current.received(answer("a@h", "q"))
    # The other marker of `q` went to the same worker: `b` needs another.
    assert not current.received(answer("a@h", "q"))
    assert not current.is_complete
    assert str(current) == "b@h (q), a@h (own)"
    assert current.received(answer("b@h", "q"))
    assert current.received(answer("a@h", "own"))
    assert current.is_complete


def test_an_application_without_receipts_is_told_at_once() -> None:
    told = r"'bare' sends no receipts: call `waybill\.enable_receipts"
    with pytest.raises(FleetError, match=told), Watch(Celery("bare")):
        pass


def test_a_round_without_consumers_is_complete() -> None:
    assert Round({}).is_complete


def test_a_queue_with_a_single_active_consumer_owes_one_marker() -> None:
    current = Round({"a@h": ["q"], "b@h": ["q"]}, single=["q"])
    assert list(current.markers()) == ["q"]
    assert current.received(answer("b@h", "q"))
    assert current.is_complete


# what a worker tells of its queue -> why it cannot be marked
UNMARKABLE = (
    ({"max_length": 1}, "x-max-length=1: a marker could push a message out"),
    ({"queue_arguments": {"x-max-length-bytes": 9}}, "x-max-length-bytes=9: a marker could push a message out"),
    ({"message_ttl": 1.5}, "x-message-ttl=1500: a marker could expire"),
    ({"queue_arguments": {"x-message-ttl": 10}}, "x-message-ttl=10: a marker could expire"),
)


@pytest.mark.parametrize(("queue", "expected"), UNMARKABLE)
def test_a_queue_that_cannot_be_marked_is_refused(queue: dict[str, Any], expected: str) -> None:
    with pytest.raises(FleetError, match=f"queue 'q' has {expected}"):
        watch._refuse_unmarkable("q", arguments_of(queue))


def test_other_queues_are_not_refused() -> None:
    for queue in ({}, {"queue_arguments": {"x-max-priority": 3}}, {"message_ttl": 3600}, {"queue_arguments": None}):
        watch._refuse_unmarkable("q", arguments_of(queue))
