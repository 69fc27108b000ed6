"""Which of the open messages an answer of the broker's is about: tags, returns without a tag, refusals in words."""

from __future__ import annotations

import random
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu import Exchange, Queue

from waybill.publishing.ledger import Item, Ledger, refused_by
from waybill.publishing.why import Declared

APP = Celery("shop", broker="amqp://", set_as_current=False)


def item(number: int = 0, **known: Any) -> Item:
    made = Item(f"task-{number}", APP.signature("shop.report"), ((), {}))
    made.correlation_id = made.task_id
    made.frames = b"message"
    for name, value in {"exchange": "x", "routing_key": "k", **known}.items():
        setattr(made, name, value)
    return made


def opened(*items: Item) -> Ledger:
    """A ledger whose items are written."""
    ledger = Ledger()
    for one in items:
        ledger.take(one.frames, one)
    ledger.write()
    return ledger


def states(items: list[Item]) -> str:
    """The first two letters of each state."""
    return " ".join(one.state[:2] for one in items)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([("acked", 2, False)], "un co un un"),
        ([("acked", 2, True)], "co co un un"),
        ([("acked", 0, True)], "co co co co"),
        ([("nacked", 3, True), ("acked", 4, False)], "na na na co"),
        ([("acked", 2, False), ("nacked", 3, True)], "na co na un"),
        ([("acked", 9, False), ("acked", 2, False), ("acked", 2, False)], "un co un un"),
    ],
)
def test_tags(answers: list[tuple[str, int, bool]], expected: str) -> None:
    items = [item(number) for number in range(4)]
    ledger = opened(*items)
    for name, tag, multiple in answers:
        getattr(ledger, name)(tag, multiple)
    assert states(items) == expected
    assert ledger.bytes_in_flight == len(b"message") * len(ledger.open)
    assert {one.call is None for one in items if one.state == "confirmed"} <= {True}


def test_a_return_is_matched_by_what_was_published() -> None:
    """Of two messages that are the same, the older one that hasn't been returned."""
    items = [item(1), item(2), item(2), item(2, routing_key="other")]
    ledger = opened(*items)
    for _ in range(2):
        ledger.returned(312, "NO_ROUTE", "x", "k", "task-2")
    ledger.returned(312, "NO_ROUTE", "x", "nobody's", "task-2")
    ledger.acked(4, True)
    assert states(items) == "co re re co"


@given(st.randoms(use_true_random=False))
def test_whatever_order_the_answers_come_in(chance: random.Random) -> None:
    """The broker's answers, coalesced as it likes, come to what it decided for each."""
    items = [item(number) for number in range(chance.randint(1, 12))]
    ledger = opened(*items)
    decided = [chance.choice(["confirmed", "returned", "nacked"]) for _ in items]
    for number, state in enumerate(decided):
        if state == "returned":
            ledger.returned(312, "NO_ROUTE", "x", "k", f"task-{number}")
    waiting = list(range(len(items)))
    while waiting:
        place = chance.randrange(len(waiting))
        kind = decided[waiting[place]] == "nacked"
        answer = ledger.nacked if kind else ledger.acked
        if all((decided[one] == "nacked") == kind for one in waiting[: place + 1]):
            answer(waiting[place] + 1, True)
            del waiting[: place + 1]
        else:
            answer(waiting.pop(place) + 1, False)
    assert [one.state for one in items] == decided
    assert (ledger.in_flight, ledger.bytes_in_flight) == (0, 0)


NOWHERE = "NOT_FOUND - no exchange 'x' in vhost '/'"
FORBIDDEN = "ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'guest'"


@pytest.mark.parametrize(
    ("text", "known", "expected"),
    [
        (NOWHERE, [{"exchange": "y"}, {}, {"exchange": "z"}], (1, 1)),
        (FORBIDDEN, [{"exchange": "y"}, {}, {"exchange": "z"}], (1, 1)),
        (NOWHERE, [{"exchange": "y"}, {}, {"exchange": "z"}, {}, {"exchange": "z"}], (1, 3)),
        (
            "PRECONDITION_FAILED - message size 7 is larger than configured max size 5",
            [{}, {"size": 7}, {"size": 7}],
            (1, 1),
        ),
        ("PRECONDITION_FAILED - invalid expiration '-5': negative", [{}, {"expiration": "-5"}, {}], (1, 1)),
        (
            "PRECONDITION_FAILED - user_id property set to 'eve' but authenticated user was 'guest'",
            [{"user_id": "guest"}, {"user_id": "eve"}],
            (1, 1),
        ),
        (
            "ACCESS_REFUSED - write access to topic 'k' in exchange 'x' in vhost '/' refused for user 'guest'",
            [{"routing_key": "a"}, {}, {}],
            (1, 1),
        ),
        ("PRECONDITION_FAILED - something new", [{}, {}, {}], (0, 2)),
        ("PRECONDITION_FAILED - something new", [{}], (0, 0)),
        ("NOT_FOUND - no exchange 'elsewhere' in vhost '/'", [{}, {}], (0, 1)),
    ],
)
def test_whom_a_refusal_is_about(text: str, known: list[dict[str, Any]], expected: tuple[int, int]) -> None:
    assert refused_by(text, [item(number, **one) for number, one in enumerate(known)]) == expected


def test_a_refusal_settles_what_is_ahead_and_keeps_what_is_behind() -> None:
    items = [item(0), item(1, expiration="-5"), item(2), item(3)]
    ledger = opened(*items[:3])
    ledger.take(items[3].frames, items[3])
    ledger.closed(406, "PRECONDITION_FAILED - invalid expiration '-5': negative", True)
    assert states(items) == "un re un un"
    assert [one.state for one in items] == ["unknown", "refused", "unsent", "unsent"]
    assert ledger.write() == b"message" * 2
    ledger.acked(2, True)  # the tags of the new channel
    assert [one.state for one in items] == ["unknown", "refused", "confirmed", "confirmed"]


def test_an_exchange_that_is_deleted_among_messages_for_it() -> None:
    """The broker may have taken any of them but the last: none is said to be refused, none is written again."""
    items = [item(number) for number in range(3)]
    ledger = opened(*items)
    ledger.closed(404, NOWHERE, True)
    assert [one.state for one in items] == ["unknown"] * 3
    assert not ledger.pending


def test_an_exchange_that_refuses_its_only_message_refuses_those_that_wait() -> None:
    items = [item(0), item(1, exchange="y"), item(2)]
    ledger = opened(items[0])
    for one in items[1:]:
        ledger.take(one.frames, one)
    ledger.closed(404, NOWHERE, True)
    assert [one.state for one in items] == ["refused", "unsent", "refused"]
    assert items[2].reason == f"not written: the broker refused an earlier message for this exchange: 404 {NOWHERE}"
    assert ledger.bytes_in_flight == len(b"message")


def test_a_lost_connection() -> None:
    items = [item(number) for number in range(4)]
    ledger = opened(*items[:3])
    ledger.take(items[3].frames, items[3])
    ledger.returned(312, "NO_ROUTE", "x", "k", "task-1")
    ledger.acked(1, False)
    ledger.lost("gone")
    assert [one.state for one in items] == ["confirmed", "returned", "unknown", "unsent"]
    assert (ledger.in_flight, ledger.bytes_in_flight) == (0, 0)


def test_why_no_queue_took_it() -> None:
    app = Celery("shop", broker="amqp://", set_as_current=False)
    news = Exchange("news", type="topic")
    app.conf.task_queues = [Queue(country, news, routing_key=f"{country}.#") for country in ("fr", "it", "uk", "usa")]
    declared = Declared(app)
    assert declared.why_unroutable("news", "eu.x", None) == (
        "bindings that the application declares: fr: first word is `eu`, the binding wants `fr`; "
        "it: first word is `eu`, the binding wants `it`; uk: first word is `eu`, the binding wants `uk` (and 1 more)"
    )
    assert declared.why_unroutable("news", "it.x", None) == (
        "the application declares 'it' for it: missing or not bound on the broker"
    )
    assert declared.why_unroutable("", "usb", None) == "no queue is named `usb`"
    assert declared.why_unroutable("amq.fanout", "k", None) == "the application binds nothing to exchange 'amq.fanout'"
    assert declared.why_unroutable("no", "k", None) == "the application declares no exchange 'no' in vhost '/'"


def test_declarations_that_rabbitmq_would_refuse_say_nothing() -> None:
    app = Celery("shop", broker="amqp://", set_as_current=False)
    app.conf.task_queues = [Queue("q", Exchange("missing", no_declare=True), routing_key="k")]
    assert Declared(app).why_unroutable("amq.fanout", "k", None) == ""
