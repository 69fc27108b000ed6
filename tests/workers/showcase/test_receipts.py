"""Receipts are Celery events, whoever consumes them, and switch no other event on."""

from __future__ import annotations

from typing import Any

from celery import Celery

from waybill.testing import receipts
from waybill.testing.receipts import Receipt
from waybill.testing.watch import Watch


def test_any_event_consumer_sees_them(waybill_app: Celery, waybill_watch: Watch) -> None:
    seen: list[dict[str, Any]] = []
    with waybill_app.connection_for_read() as connection:
        receiver = waybill_app.events.Receiver(connection, handlers={"*": seen.append})
        capture = receiver.itercapture(timeout=10, wakeup=False)
        next(capture)  # with the first heartbeat the receiver's queue is known to be bound
        sent = waybill_watch.publish("worker.tasks.encode", ("x",), exchange="media", routing_key="media.video")
        while not any(event.get("uuid") == sent.task_id for event in seen):
            next(capture)
    (event,) = [event for event in seen if event.get("uuid") == sent.task_id]
    assert event["type"] == receipts.RECEIVED
    receipt = Receipt.from_event(event)
    assert (receipt.queue, receipt.exchange, receipt.routing_key) == ("videos", "media", "media.video")
    assert {one["type"] for one in seen} <= {receipts.RECEIVED, "worker-heartbeat", "worker-online"}
