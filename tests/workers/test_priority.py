"""The order in which a filled queue is served: the worker starts when every message is there."""

from __future__ import annotations

import pytest
from celery import Celery

import exchanges
from waybill.celery_app import publication
from waybill.celery_app.fleet.workers import Fleet
from waybill.testing.brokers import connect
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers

pytestmark = pytest.mark.waybill_workers("batch")

# Published priorities, in order. Above the queue's maximum (10) counts as 10; for None, Kombu publishes 0.
PUBLISHED = (1, 9, None, 5, 99, 10, 0, 9)
SERVED = (99, 10, 9, 9, 5, 1, 0, 0)


@pytest.fixture(scope="module")
def filled(waybill_app: Celery) -> list[publication.Publication]:
    with connect(waybill_app) as connection:
        exchanges.declare(connection)
        return [
            publication.publish(
                waybill_app, connection, "worker.tasks.work", exchange="tasks", routing_key="tasks", priority=priority
            )
            for priority in PUBLISHED
        ]


def test_the_highest_comes_first_and_equals_in_order(
    waybill_app: Celery,
    filled: list[publication.Publication],
    waybill_fleet: Fleet,
    request: pytest.FixtureRequest,
) -> None:
    # The watch comes before the worker, so that the first receipt isn't missed.
    with Watch(waybill_app) as watch:
        workers: LocalWorkers = request.getfixturevalue("waybill_workers")
        watch.discover_workers([worker.name for worker in waybill_fleet], workers.check_alive)
        for sent in filled:
            watch.follow(sent)
        deliveries = watch.settle()
    assert [len(delivery.received) for delivery in deliveries] == [1] * len(PUBLISHED)
    served = sorted(deliveries, key=lambda delivery: delivery.received[0].time)
    assert tuple(delivery.received[0].priority for delivery in served) == SERVED
    nines = [delivery.publication.task_id for delivery in served if delivery.received[0].priority == 9]
    assert nines == [sent.task_id for sent in filled if sent.priority == 9]
