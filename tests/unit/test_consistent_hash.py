"""Consistent hashing, against values printed by Erlang and choices made by RabbitMQ 4.3.6."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import pytest

from waybill.matching.hashing import _uniform, bucket, phash2
from waybill.routing import Router
from waybill.topology import Binding, Exchange, Message, Queue, Topology


def test_phash2_is_erlangs() -> None:
    printed = {
        b"": 13708901,
        b"a": 112802447,
        b"abc": 98228475,
        b"abcdefghijkl": 15432855,
        b"abcdefghijklm": 11441572,
        b"img.resize.thumbnail.0001": 49745027,
    }
    assert {data: phash2(data) for data in printed} == printed


def test_the_generator_is_erlangs() -> None:
    assert list(islice(_uniform(5), 2)) == [0.3524409836262642, 0.6709089196544433]


def test_a_bucket_is_kept_when_others_join() -> None:
    # What makes the hash consistent: with one bucket more a key stays, or it goes to the new one.
    for key in range(500):
        before, after = bucket(key, 9), bucket(key, 10)
        assert after in (before, 9)


def router(*weights: tuple[str, str], **arguments: Any) -> Router:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return Router.of(
        Topology(
            [Exchange("x", "x-consistent-hash", arguments=named)],
            dict.fromkeys(Queue(name) for name, _ in weights),
            [Binding("x", name, weight) for name, weight in weights],
        )
    )


def test_one_queue_and_in_the_shares_of_the_weights() -> None:
    routes = router(("a", "1"), ("b", "3"))
    reached = [routes.route(Message("x", f"key{number}")) for number in range(2000)]
    shares = Counter(queue for (queue,) in reached)
    assert 2.5 < shares["b"] / shares["a"] < 3.5


def test_the_first_binding_of_a_queue_counts() -> None:
    routes = router(("a", "1"), ("b", "1"), ("a", "9"))
    assert {routes.route(Message("x", f"key{n}")) for n in range(50)} == {("a",), ("b",)}
    routes.unbind(Binding("x", "a", "9"))  # takes the queue off the row, though its first binding stays
    assert {routes.route(Message("x", f"key{n}")) for n in range(50)} == {("b",)}


@pytest.mark.parametrize(
    ("arguments", "headers", "is_certain"),
    [
        ({}, {}, True),
        ({"hash_header": "h"}, {"h": "text"}, True),
        ({"hash_header": "h"}, {"h": 7}, True),
        ({"hash_header": "h"}, {}, True),
        ({"hash_header": "h"}, {"h": 1.5}, False),
        ({"hash_property": "message_id"}, {}, False),
    ],
)
def test_what_cannot_be_told_is_said(arguments: dict[str, str], headers: dict[str, Any], is_certain: bool) -> None:
    trace = router(("a", "1"), ("b", "1"), **arguments).trace(Message("x", "k", headers))
    assert trace.is_certain is is_certain
    assert len(trace.queues) == (1 if is_certain else 2)
