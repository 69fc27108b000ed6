"""Batches of tasks, and what the queues really hold of them."""

from __future__ import annotations

from typing import Any

import amqp
from celery import Celery
from kombu import Connection

from waybill import bulk_publish
from waybill.errors import BrokerUnavailable
from waybill.publishing import Batch, Outcome

TASK = "shop.report"


def app_at(url: str, **settings: Any) -> Celery:
    app = Celery("shop", broker=url, set_as_current=False)
    app.conf.update(settings)

    @app.task(name=TASK, shared=False)
    def report(number: int) -> None: ...

    return app


def drain(url: str, queue: str) -> list[str]:
    """The ids of the tasks in a queue, which is deleted; none where there is no such queue."""
    with Connection(url) as connection:
        channel = connection.channel()
        ids = []
        try:
            while message := channel.basic_get(queue, no_ack=True):
                ids.append(message.properties["correlation_id"])
        except amqp.NotFound:
            return []
        channel.queue_delete(queue)
        return ids


def states(batch: Batch) -> list[str]:
    return [outcome.state for outcome in batch.outcomes]


def agree(outcomes: tuple[Outcome, ...], held: list[str]) -> None:
    """Nothing confirmed is missing, nothing else is there but what is unknown, and nothing is there twice."""
    for outcome in outcomes:
        count = held.count(outcome.task_id)
        if outcome.state == "confirmed":
            assert count == 1, outcome
        elif outcome.state == "unknown":
            assert count <= 1, outcome
        else:
            assert count == 0, outcome


def small_batch(app: Celery, queue: str, window: int = 3, timeout: float = 5) -> Batch | None:
    """Ten tasks of all kinds, three in flight; None where not even the connection is made."""
    batch = bulk_publish(app, window=window, timeout=timeout)
    try:
        with batch:
            for number in range(10):
                where: dict[str, Any] = {"queue": queue}
                if number == 4:
                    where = {"exchange": "amq.topic", "routing_key": "nowhere"}
                elif number == 6:
                    where["expiration"] = -5
                batch.add(TASK, (number,), task_id=f"{queue}-{number}", **where)
    except BrokerUnavailable:
        return None
    return batch
