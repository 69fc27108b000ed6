"""Which workers receive which messages, through every exchange of the showcase, on a real broker with real workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any

import pytest
from celery import Celery

import exchanges
from exchanges import fanout, plugins
from tests.support.programs import module
from waybill.celery_app.declared import from_celery
from waybill.celery_app.fleet.workers import Fleet
from waybill.rabbitmq.management import LiveConsumer, Management
from waybill.testing.delivery import Delivery
from waybill.testing.watch import Watch
from waybill.topology.definitions import from_definitions, to_definitions

WORK, ENCODE, REPORT, FULFIL = (f"worker.tasks.{name}" for name in ("work", "encode", "report", "fulfil"))

# Seconds in which the management API has to know of every consumer.
MANAGEMENT_TIMEOUT = 30.0


@pytest.fixture(scope="module", autouse=True)
def _declared(waybill_watch: Watch) -> None:
    exchanges.declare(waybill_watch.connection)


def deliver(watch: Watch, task: str, args: tuple[Any, ...] = ("x",), **options: Any) -> Delivery:
    watch.publish(task, args, **options)
    (delivery,) = watch.settle()
    return delivery


def through(exchange: str) -> dict[str, Any]:
    """The options that publish to this exchange, and nothing that Celery would read as its default queue."""
    (kind,) = {declared.type for declared in exchanges.EXCHANGES if declared.name == exchange}
    return {"exchange": exchange, "exchange_type": kind}


# exchange, routing key -> {worker: queue}; an empty one means that RabbitMQ returns the message.
BY_KEY: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("default", "default", {"default": "default"}),
    ("default", "Default", {}),
    ("media", "media.video", {"videos": "videos"}),
    ("media", "media.audio", {}),
    ("media", "media", {}),
    ("news", "usa.news", {"usa": "usa_all", "world": "all_news"}),
    ("news", "usa.weather", {"usa": "usa_all", "world": "usa_weather"}),
    ("news", "norway.news", {"world": "all_news"}),
    ("news", "norway.weather", {}),
    ("news", "usa", {"usa": "usa_all"}),
    ("news", "usa.sports.nba", {"usa": "usa_all"}),
    ("news", "news", {}),
    ("news", ".news", {"world": "all_news"}),
    ("news", "usa.", {"usa": "usa_all"}),
    ("news", "", {}),
    ("signups", "", {"mail": "welcome_mail", "books": "statistics"}),
    ("signups", "whatever", {"mail": "welcome_mail", "books": "statistics"}),
    ("tasks", "tasks", {"batch": "tasks"}),
    ("payments", "card", {"books": "card_payments"}),
    ("payments", "bitcoin", {"clerk": "payments_review"}),
    ("shop", "shop.paid", {"orders": "shop_log", "mail": "invoices", "books": "ledger"}),
    ("shop", "shop.returned", {"orders": "shop_log"}),
    ("shop", "shop", {}),
    ("billing", "whatever", {"mail": "invoices", "books": "ledger"}),
)


@pytest.mark.parametrize(("exchange", "routing_key", "expected"), BY_KEY)
def test_by_key(waybill_watch: Watch, exchange: str, routing_key: str, expected: Mapping[str, str]) -> None:
    delivery = deliver(waybill_watch, WORK, routing_key=routing_key, **through(exchange))
    assert delivery.by_worker == expected
    assert delivery.publication.is_returned is (not expected)
    assert {receipt.routing_key for receipt in delivery.received} <= {routing_key}


# headers -> {worker: queue}
BY_HEADERS: tuple[tuple[Mapping[str, Any], Mapping[str, str]], ...] = (
    ({"format": "pdf", "type": "report"}, {"documents": "pdf_reports"}),
    ({"format": "pdf", "type": "report", "more": 1}, {"documents": "pdf_reports"}),
    ({"format": "pdf"}, {"clerk": "unfiled"}),
    ({"format": "pdf", "type": "Report"}, {"clerk": "unfiled"}),
    ({"format": "zip"}, {"documents": "urgent_archives"}),
    ({"priority": "high"}, {"documents": "urgent_archives"}),
    ({"format": "zip", "priority": "low"}, {"documents": "urgent_archives"}),
    ({"format": "txt", "priority": "low"}, {"clerk": "unfiled"}),
    ({}, {"clerk": "unfiled"}),
)


@pytest.mark.parametrize(("headers", "expected"), BY_HEADERS)
def test_by_headers(waybill_watch: Watch, headers: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    assert deliver(waybill_watch, WORK, headers=headers, **through("documents")).by_worker == expected


def test_two_header_bindings_are_two_copies(waybill_watch: Watch) -> None:
    delivery = deliver(
        waybill_watch, WORK, headers={"format": "pdf", "type": "report", "priority": "high"}, **through("documents")
    )
    assert Counter((receipt.worker_name, receipt.queue) for receipt in delivery.received) == {
        ("documents", "pdf_reports"): 1,
        ("documents", "urgent_archives"): 1,
    }


def test_by_a_header_that_celery_sets(waybill_watch: Watch) -> None:
    assert deliver(waybill_watch, ENCODE, **through("by_task")).by_worker == {"videos": "encodings"}
    assert deliver(waybill_watch, WORK, **through("by_task")).publication.is_returned


def test_without_options_to_the_default_queue(waybill_watch: Watch) -> None:
    delivery = deliver(waybill_watch, WORK)
    assert delivery.by_worker == {"default": "default"}
    # Celery takes the default exchange where the queue's exchange is a direct one.
    assert (delivery.publication.exchange, delivery.publication.routing_key) == ("", "default")


def test_a_broadcast_reaches_every_worker_once(waybill_watch: Watch, waybill_fleet: Fleet) -> None:
    delivery = deliver(waybill_watch, "worker.tasks.announce", **through("announcements"))
    assert Counter(receipt.worker_name for receipt in delivery.received) == {worker.name: 1 for worker in waybill_fleet}
    own = {receipt.queue for receipt in delivery.received}
    assert len(own) == len(delivery.received)
    assert all(queue.startswith("bcast.") for queue in own)


def test_competing_workers_get_every_message_once_in_all(waybill_watch: Watch) -> None:
    for _ in range(40):
        waybill_watch.publish(WORK, exchange="media", routing_key="media.image")
    deliveries = waybill_watch.settle()
    assert [len(delivery.received) for delivery in deliveries] == [1] * 40
    shares = Counter(delivery.received[0].worker_name for delivery in deliveries)
    assert set(shares) == {"images1", "images2"}
    assert {delivery.received[0].queue for delivery in deliveries} == {"images"}


def test_a_rejected_task_goes_to_the_dead_letter_queue(waybill_watch: Watch) -> None:
    order = {"exchange": "orders", "routing_key": "order"}
    assert deliver(waybill_watch, FULFIL, ("1", True), **order).by_worker == {"orders": "orders"}
    rejected = deliver(waybill_watch, FULFIL, ("2", False), **order)
    assert rejected.by_worker == {"orders": "orders", "clerk": "orders_dead"}
    # By worker: between two workers receipts have no order.
    assert {receipt.worker_name: receipt.exchange for receipt in rejected.received} == {
        "orders": "orders",
        "clerk": "orders.dead",
    }


def test_a_late_queue_gets_the_last_value(waybill_app: Celery, waybill_watch: Watch) -> None:
    board = plugins.price_board
    with waybill_app.connection_for_write() as connection, connection.channel() as channel:
        board(channel).unbind_from(plugins.prices, routing_key=board.routing_key)
        for price in ("99", "101", "100"):
            waybill_watch.publish(WORK, (price,), **through("prices"))
        board(channel).bind_to(plugins.prices, routing_key=board.routing_key)
    first, second, last = (delivery.by_worker for delivery in waybill_watch.settle())
    assert first == second == {"ticker": "price_log"}
    assert last == {"ticker": "price_log", "board": "price_board"}


def test_a_key_always_goes_to_the_same_shard(waybill_watch: Watch) -> None:
    keys = [f"customer.{number}" for number in range(12)]
    for key in keys * 2:
        waybill_watch.publish(WORK, routing_key=key, **through("shards"))
    found = [delivery.by_worker for delivery in waybill_watch.settle()]
    assert found[:12] == found[12:]
    assert {tuple(one.items()) for one in found} == {(("ticker", "shard_1"),), (("board", "shard_2"),)}


def test_a_receipt_tells_what_the_worker_got(waybill_watch: Watch) -> None:
    delivery = deliver(waybill_watch, WORK, exchange="tasks", routing_key="tasks", priority=7)
    (receipt,) = delivery.received
    assert receipt.task_id == delivery.publication.task_id
    assert (receipt.task, receipt.exchange, receipt.routing_key) == (WORK, "tasks", "tasks")
    assert (receipt.priority, receipt.redelivered, receipt.is_discarded) == (7, False, False)
    assert receipt.worker.startswith("batch@")


def test_a_task_that_no_worker_has_is_discarded_and_told(waybill_watch: Watch) -> None:
    delivery = deliver(waybill_watch, "worker.tasks.nosuch", exchange="media", routing_key="media.video")
    (receipt,) = delivery.received
    assert (receipt.worker_name, receipt.queue, receipt.is_discarded) == ("videos", "videos", True)
    with pytest.raises(ValueError, match=r"threw worker\.tasks\.nosuch away"):
        assert delivery.by_worker


def test_the_broker_has_what_was_declared(waybill_management: Management) -> None:
    live_exchanges = {live.name: live for live in waybill_management.exchanges()}
    for exchange in exchanges.EXCHANGES:
        live = live_exchanges[exchange.name]
        assert (live.type, live.durable, dict(live.arguments)) == (exchange.type, True, exchange.arguments or {})
    live_queues = {live.queue.name: live.queue for live in waybill_management.queues()}
    bindings = [live.binding for live in waybill_management.bindings()]
    live_bindings = {(one.source, one.destination, one.binding_key): one.arguments for one in bindings}
    for queue in (queue for queue in exchanges.QUEUES if queue not in fanout.BROADCASTS):
        # RabbitMQ 4 adds the queue's type to the arguments that it shows.
        shown = {name: value for name, value in live_queues[queue.name].arguments.items() if name != "x-queue-type"}
        assert shown == (queue.queue_arguments or {})
        assert dict(live_bindings[queue.exchange.name, queue.name, queue.routing_key]) == (
            queue.binding_arguments or {}
        )
    assert ("shop", "billing", "shop.paid") in live_bindings


def consumers_known(management: Management, count: int) -> list[LiveConsumer]:
    """The consumers, when the management API knows of as many: it hears of them some time after they began."""
    deadline = monotonic() + MANAGEMENT_TIMEOUT
    while len(found := management.consumers()) < count and monotonic() < deadline:
        sleep(0.1)
    return found


def test_the_fleet_is_what_consumes(waybill_fleet: Fleet, waybill_management: Management) -> None:
    described = Counter(queue for worker in waybill_fleet for queue in worker.queues)
    consumers = consumers_known(waybill_management, described.total())
    queues = ["announcements" if one.queue.startswith("bcast.") else one.queue for one in consumers]
    assert {queue: count for queue, count in Counter(queues).items() if queue in described} == described
    # As many messages as a worker runs at once: one, but for the worker `quick`.
    taken = {(queue, one.prefetch_count) for queue, one in zip(queues, consumers, strict=True) if one.ack_required}
    assert {(queue, count) for queue, count in taken if count != 1} == {("quick", 2), ("announcements", 2)}


def test_rabbitmq_imports_what_we_export(waybill_app: Celery, waybill_management: Management) -> None:
    declared = from_celery(waybill_app)
    waybill_management.import_definitions(to_definitions(declared))
    live = from_definitions(waybill_management.definitions())
    missing = {queue.name for queue in live.queues} - {queue.name for queue in declared.queues}
    arguments = {
        queue.name: {name: value for name, value in queue.arguments.items() if name != "x-queue-type"}
        for queue in live.queues
    }
    assert {queue.name: arguments.get(queue.name) for queue in declared.queues} == {
        queue.name: dict(queue.arguments) for queue in declared.queues
    }
    assert set(declared.exchanges) <= set(live.exchanges)
    assert set(declared.bindings) <= set(live.bindings)
    assert all(name.startswith(("bcast.", "celeryev.")) or "pidbox" in name for name in missing)


def test_a_check_finds_nothing(waybill_vhost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fleet up: what is meant to be is ignored in pyproject.toml, by name and with a reason."""
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    live = waybill_vhost.management_url
    asked = ("--management", live, "--vhost", waybill_vhost.vhost) if live else ()
    shown = module("waybill", "check", *asked)
    assert (shown.code, shown.err) == (0, "")
    # One of them needs RabbitMQ's version, which its management API tells.
    assert shown.out.startswith(f"no findings, {3 if live else 2} ignored with a reason; ")
    assert ("not checked" in shown.out) == (live is None)
