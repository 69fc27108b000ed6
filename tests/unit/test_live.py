"""What flows now, as values: the firehose's copies, messages and their ways, what is there and where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from waybill.errors import InputError
from waybill.live import names
from waybill.live.collector import HIDDEN, Collector
from waybill.live.events import Event, read_event
from waybill.live.flow import Flow
from waybill.live.layout import COLUMNS, layout
from waybill.live.serving import line
from waybill.live.shape import shape_of
from waybill.rabbitmq.management import LiveConsumer
from waybill.rabbitmq.state import LiveFacts
from waybill.routing import Router
from waybill.topology import Binding, Exchange, Queue, Topology
from waybill.topology.policies import NO_POLICIES

HERE, THERE = "10.0.0.1:5 -> 10.0.0.9:5672", "10.0.0.2:6 -> 10.0.0.9:5672"


def facts(
    exchanges: Iterable[Exchange] = (),
    queues: Iterable[Queue] = (),
    bindings: Iterable[Binding] = (),
    consumers: tuple[LiveConsumer, ...] = (),
) -> LiveFacts:
    topology = Topology(exchanges, queues, bindings)
    router = Router.of(topology)
    kinds = frozenset({"direct", "topic", "fanout", "headers"})
    listed = {one.name: one for one in router.exchanges.values()}, {one.name: one for one in topology.queues}
    nothing: frozenset[str] = frozenset()
    return LiveFacts("/", (4, 3), kinds, nothing, nothing, "classic", NO_POLICIES, *listed, {}, (), consumers, router)


NEWS = Exchange("news", "topic", arguments={"alternate-exchange": "rest"})
REST = Exchange("rest", "fanout")
USA = Queue("usa", arguments={"x-dead-letter-exchange": "dead"})
DEAD = Exchange("dead", "fanout")
SHOP = facts(
    (NEWS, REST, DEAD),
    (USA, Queue("others"), Queue("failed"), Queue("w1@host.celery.pidbox")),
    (
        Binding("news", "usa", "usa.#"),
        Binding("rest", "others", ""),
        Binding("dead", "failed", ""),
    ),
    (
        LiveConsumer("usa", "1", 4, True, HERE),
        LiveConsumer("w1@host.celery.pidbox", "2", 0, False, HERE),
        LiveConsumer("failed", "3", 0, True, THERE),
    ),
)


def event(kind: str, exchange: str, key: str, *queues: str, **more: Any) -> Event:
    headers = more.pop("headers", {})
    made = Event(1.0, kind, exchange, (key,), queues, THERE, 1, "guest", False, {"headers": headers}, b"body")
    return replace(made, **more)


def test_a_copy_is_read() -> None:
    headers = {
        "exchange_name": "news",
        "routing_keys": ["usa.x", "copy"],
        "properties": {"headers": {"id": "1"}, "content_type": "text/plain"},
        "connection": HERE,
        "channel": 3,
        "user": "guest",
        "routed_queues": ["usa"],
    }
    read = read_event("publish.news", headers, b"b", 5.0)
    assert (read.kind, read.exchange, read.keys, read.queues) == ("publish", "news", ("usa.x", "copy"), ("usa",))
    assert (read.connection, read.channel, read.headers["id"]) == (HERE, 3, "1")
    taken = read_event("deliver.a.b", {**headers, "redelivered": 1}, b"b", 5.0)
    assert (taken.queues, taken.is_redelivered, taken.identity) == (("a.b",), True, read.identity)


def test_what_is_no_copy_is_refused() -> None:
    with pytest.raises(InputError, match="no copy of a firehose"):
        read_event("usa.sports", {}, b"", 0.0)


PATHS: tuple[tuple[Event, list[list[str]]], ...] = (
    (
        event("publish", "news", "usa.x", "usa"),
        [["publish me>news", "queue news>usa:usa.#"]],
    ),
    (
        event("publish", "news", "eu", "others"),
        [["publish me>news", "alternate news>rest", "queue rest>others:"]],
    ),
    (event("publish", "", "usa", "usa"), [["publish me>", "queue >usa:usa"]]),
    (event("publish", "", "none"), [["publish me>"]]),
    (event("publish", "gone", "x"), [["publish me>gone"]]),
)


@pytest.mark.parametrize(("published", "paths"), PATHS)
def test_the_way_of_a_publication(published: Event, paths: list[list[str]]) -> None:
    one = Flow().published(published, "me", SHOP.router)
    assert one.paths() == paths


def test_a_message_is_followed_to_its_worker_and_beyond() -> None:
    collector = Collector(SHOP)
    task = {"id": "t", "task": "shop.report", "origin": "gen1@web", "retries": 0}
    one = collector.take(event("publish", "news", "usa.x", "usa", headers=task))
    assert one is not None
    assert collector.row(one)["state"] == "routed"
    collector.take(event("deliver", "news", "usa.x", "usa", headers=task, connection=HERE, time=2.0))
    row = collector.row(one)
    assert (row["state"], row["workers"], row["sender"]) == ("delivered", ["w1@host"], "gen1@web")
    assert row["edges"] == [["publish gen1@web>news", "queue news>usa:usa.#", "consume usa>w1@host"]]
    died = {**task, "x-death": [{"queue": "usa", "reason": "rejected", "count": 1}]}
    collector.take(event("deliver", "dead", "usa.x", "failed", headers=died, time=3.0))
    row = collector.row(one)
    assert row["state"] == "dead_lettered"
    assert row["edges"][1] == ["dead_letter usa>dead", "queue dead>failed:", "consume failed>10.0.0.2:6"]
    assert [hop["kind"] for hop in row["hops"]] == ["publish", "deliver", "dead_letter", "deliver"]
    assert collector.details(one)["deaths"] == [{"queue": "usa", "reason": "rejected", "count": 1}]
    assert line(row).endswith("shop.report  news usa.x → usa → w1@host, 10.0.0.2:6  dead_lettered")


def test_the_same_message_twice_is_two() -> None:
    flow = Flow()
    first, second = (flow.published(event("publish", "", "usa", "usa"), "me", SHOP.router) for _ in range(2))
    for expected in ([1, 0], [1, 1]):
        flow.delivered(event("deliver", "", "usa", "usa"), SHOP.router)
        assert [first.delivered["usa"], second.delivered["usa"]] == expected
    flow.delivered(event("deliver", "", "usa", "usa", is_redelivered=True), SHOP.router)
    assert [first.delivered["usa"], second.delivered["usa"]] == [1, 2]
    assert flow.delivered(event("deliver", "", "x", "usa", body=b"unseen"), SHOP.router) is None


def test_what_goes_otherwise_is_said_when_the_declarations_are_read_anew() -> None:
    collector = Collector(SHOP)
    one = collector.take(event("publish", "news", "usa.x", "others"))
    assert one is not None
    assert (collector.is_doubtful, one.state) == (True, "routed")
    collector.take_facts(facts((Exchange("news", "topic"),), (Queue("others"),), (Binding("news", "others", "#"),)))
    assert (collector.is_doubtful, collector.mismatches, one.predicted) == (False, 0, ("others",))
    wrong = collector.take(event("publish", "news", "usa.x", "usa"))
    assert wrong is not None
    collector.take_facts(facts((Exchange("news", "topic"),), (Queue("others"),), (Binding("news", "others", "#"),)))
    assert (collector.mismatches, wrong.state, wrong.predicted) == (1, "mismatch", ("others",))


def test_the_machinery_is_not_shown() -> None:
    collector = Collector(SHOP)
    for exchange, queue in (("celeryev", "celeryev.1"), ("reply.celery.pidbox", "x.reply.celery.pidbox")):
        assert collector.take(event("publish", exchange, "k", queue)) is None
    assert collector.take(event("deliver", "", "k", "w1@host.celery.pidbox")) is None
    assert "w1@host.celery.pidbox" not in str(collector.map(1.0))
    assert collector.take(event("publish", "", "amq.gen-1", "amq.gen-1")) is not None


def test_only_the_last_messages_are_kept() -> None:
    flow = Flow(max_messages=3, max_bytes=1000)
    for number in range(5):
        flow.published(event("publish", "", "usa", "usa", body=b"%d" % number), "me", SHOP.router)
    assert [one.number for one in flow.after(0, 10)] == [3, 4, 5]
    flow.published(event("publish", "", "usa", "usa", body=b"x" * 999), "me", SHOP.router)
    assert [one.number for one in flow.after(0, 10)] == [5, 6]
    assert flow.edges["queue >usa:usa"] == 6  # counts drop nothing


def test_nobody_took_it() -> None:
    collector = Collector(facts((Exchange("news", "topic"),), (Queue("usa"),), (Binding("news", "usa", "usa.#"),)))
    collector.take(event("publish", "news", "eu.x"))
    (row,) = collector.unroutable()
    assert row["reasons"] == ["queue usa: first word is `eu`, the binding wants `usa`"]
    assert row["fix"].startswith("bind a queue to 'news' with a key that takes 'eu.x'")


def test_secrets_are_hidden() -> None:
    collector = Collector(SHOP, has_bodies=True)
    headers: Mapping[str, Any] = {"token": "x", "deep": {"password": "y", "name": "z"}}
    one = collector.take(event("publish", "", "usa", "usa", headers=headers, body=b'{"secret": 1, "a": [2]}'))
    assert one is not None
    found = collector.details(one)
    assert found["headers"] == {"token": HIDDEN, "deep": {"password": HIDDEN, "name": "z"}}
    assert found["body"] == f'{{"secret": "{HIDDEN}", "a": [2]}}'
    pickled = collector.take(event("publish", "", "usa", "usa", body=b"\x80\x04."))
    assert pickled is not None
    assert collector.details(pickled)["body"] == "3 bytes of unknown type"


def test_a_new_node_moves_no_old_one() -> None:
    before = layout(shape_of(SHOP))
    sent = [("me", "news"), ("you", "rest")]
    after = layout(shape_of(SHOP, published=sent), {one: place.row for one, place in before.items()})
    assert {one: after[one] for one in before} == before
    assert after["publisher:me"].x == COLUMNS[0]
    assert len({(place.x, place.y) for place in after.values()}) == len(after)


def test_what_is_tried_publishes_nothing() -> None:
    collector = Collector(SHOP)
    found = collector.attempt("news", "usa.x", {})
    assert (found["queues"], found["edges"]) == (["usa"], [["queue news>usa:usa.#"]])
    assert collector.attempt("gone", "x", {})["error"] == "404 no exchange 'gone' in vhost '/'"
    assert collector.flow.last == 0


def test_a_binding_has_an_edge_of_its_own() -> None:
    assert names.bound(Binding("a", "b", "k")) != names.bound(Binding("a", "b", "k", destination_type="exchange"))
