"""What this process publishes, whoever publishes it: heard by Celery's own signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery.signals import after_task_publish, before_task_publish

from waybill.celery_app.publication import Publication


@contextmanager
def hearing(callback: Callable[[Publication], None]) -> Iterator[None]:
    """Call this for each task message that the process has published within the block, in whatever thread."""
    properties: dict[str, Mapping[str, Any]] = {}

    def before(headers: Any = None, body: Any = None, **given: Any) -> None:
        properties[_id_of(headers, body)] = given.get("properties") or {}

    def after(sender: Any = None, headers: Any = None, body: Any = None, **given: Any) -> None:
        task_id = _id_of(headers, body)
        known = properties.pop(task_id, {})
        exchange = given.get("exchange")
        callback(
            Publication(
                exchange=getattr(exchange, "name", exchange) or "",
                routing_key=given.get("routing_key") or "",
                headers=dict(headers or {}),
                priority=known.get("priority"),
                expiration=known.get("expiration"),
                task=str(sender),
                task_id=task_id,
            )
        )

    before_task_publish.connect(before, weak=False)
    after_task_publish.connect(after, weak=False)
    try:
        yield
    finally:
        before_task_publish.disconnect(before)
        after_task_publish.disconnect(after)


def _id_of(headers: Any, body: Any) -> str:
    """A message's task id: in its headers, or in its body where it is of the older protocol."""
    told = headers if headers and "id" in headers else body
    return str(told["id"]) if isinstance(told, Mapping) else ""
