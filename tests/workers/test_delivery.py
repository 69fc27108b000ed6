"""The proof of absence, as values and with real workers."""

from __future__ import annotations

import os
import signal
from time import monotonic
from typing import Any

import pytest
from celery import Celery

from publishers.support.control import ask
from waybill.celery_app.names import MARKER
from waybill.errors import FleetError
from waybill.testing import watch as watch_module
from waybill.testing.rounds import Round
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers
from worker import tasks

pytestmark = pytest.mark.waybill_workers("images1", "images2", "orders", "clerk")


def test_absence_is_seen_however_slow_the_receiver(waybill_watch: Watch) -> None:
    """Every copy is known when `settle` returns, with many messages on the way to competing workers."""
    for number in range(60):
        waybill_watch.publish("worker.tasks.work", (str(number),), exchange="media", routing_key="media.image")
        waybill_watch.publish("worker.tasks.fulfil", ("o", False), exchange="orders", routing_key="order")
    deliveries = waybill_watch.settle()
    assert all(len(one.received) == 1 for one in deliveries[::2])
    assert all(one.by_worker == {"orders": "orders", "clerk": "orders_dead"} for one in deliveries[1::2])
    assert waybill_watch.settle() == ()


def test_what_a_task_causes_is_proven_when_its_receipt_came_first(
    waybill_watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round then says only that the task has ended; its dead letter may have come behind the markers."""
    sent = waybill_watch.publish("worker.tasks.fulfil", ("o", False), exchange="orders", routing_key="order")
    while not waybill_watch.received_so_far(sent.task_id):
        waybill_watch.connection.drain_events(timeout=watch_module.SETTLE_TIMEOUT)
    rounds: list[Round] = []
    run_round = waybill_watch._run_round

    def counted() -> None:
        rounds.append(waybill_watch._round)
        run_round()

    monkeypatch.setattr(waybill_watch, "_run_round", counted)
    (rejected,) = waybill_watch.settle()
    assert rejected.by_worker == {"orders": "orders", "clerk": "orders_dead"}
    assert len(rounds) >= 2


def test_receipts_of_what_somebody_else_published(waybill_watch: Watch) -> None:
    """A dead letter's second receipt is here too, and `settle` doesn't know of any of them."""
    sent = tasks.fulfil.apply_async(("o", False), exchange="orders", exchange_type="direct", routing_key="order")
    received = waybill_watch.receipts_of([sent.id, "nosuch"])
    assert [receipt.worker_name for receipt in received[sent.id]] == ["orders", "clerk"]
    assert received["nosuch"] == ()
    assert waybill_watch.settle() == ()


def test_a_busy_consumer_is_waited_for_and_the_free_one_is_not_flooded(waybill_watch: Watch) -> None:
    waybill_watch.publish("worker.tasks.nap", (3,), exchange="media", routing_key="media.image")
    waybill_watch.publish("worker.tasks.work", exchange="media", routing_key="media.image")
    markers: list[str] = []
    publish_marker = waybill_watch._publish_marker

    def counted(queue: str) -> None:
        markers.append(queue)
        publish_marker(queue)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waybill_watch, "_publish_marker", counted)
        busy, free = waybill_watch.settle()
    assert {busy.received[0].worker_name, free.received[0].worker_name} == {"images1", "images2"}
    assert markers.count("images") < 60


def test_two_watches_do_not_disturb_each_other(waybill_app: Celery, waybill_watch: Watch) -> None:
    with Watch(waybill_app) as other:
        other.discover_workers()
        assert other.consumers_by_worker == waybill_watch.consumers_by_worker
        waybill_watch.publish("worker.tasks.work", exchange="media", routing_key="media.image")
        other.publish("worker.tasks.fulfil", ("o", True), exchange="orders", routing_key="order")
        (first,), (second,) = waybill_watch.settle(), other.settle()
    assert first.received[0].queue == "images"
    assert second.by_worker == {"orders": "orders"}


def test_no_marker_waits_for_a_pool_when_a_watch_ends(
    waybill_app: Celery, waybill_workers: LocalWorkers, waybill_watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool's process is stopped while the worker takes the markers, and goes on when the worker was asked once."""
    inspect = waybill_app.control.inspect
    (stats,) = ask(
        "stats", [worker for worker in waybill_watch.consumers_by_worker if worker.startswith("orders@")]
    ).values()
    (pool_process,) = stats["pool"]["processes"]
    waiting: list[int] = []
    ask_reserved = inspect.reserved

    def reserved(inspecting: Any) -> Any:
        answers = ask_reserved(inspecting)
        waiting.append(sum(task["name"] == MARKER for tasks in answers.values() for task in tasks))
        os.kill(pool_process, signal.SIGCONT)
        return answers

    monkeypatch.setattr(inspect, "reserved", reserved)
    try:
        with Watch(waybill_app) as watch:
            watch.discover_workers(["orders"], waybill_workers.check_alive)
            os.kill(pool_process, signal.SIGSTOP)
            watch.settle()
    finally:
        os.kill(pool_process, signal.SIGCONT)
    assert waiting
    assert waiting[0] > 0
    assert waiting[-1] == 0


def test_a_worker_that_does_not_answer_is_named(
    waybill_watch: Watch, waybill_workers: LocalWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "SETTLE_TIMEOUT", 2.0)
    waybill_workers.kill("clerk")
    with pytest.raises(FleetError, match=r"no receipt within 2 s from clerk@\S+ \(") as caught:
        waybill_watch.settle()
    assert "orders_dead" in str(caught.value)


def test_a_worker_that_has_ended_is_not_waited_for(
    waybill_app: Celery, waybill_workers: LocalWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "POOL_TIMEOUT", 2 * watch_module.SETTLE_TIMEOUT)
    with Watch(waybill_app) as watch:
        watch.discover_workers(["images2"], waybill_workers.check_alive)
        watch.settle()
        waybill_workers.kill("images2")
        left = monotonic()
    assert monotonic() - left < watch_module.SETTLE_TIMEOUT
