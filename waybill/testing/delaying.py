"""Queues in which a message waits until it expires, and then goes on to a dead-letter exchange."""

from __future__ import annotations

from collections.abc import Collection

from celery import Celery

from waybill.celery_app.declared import record
from waybill.celery_app.names import is_delayed
from waybill.errors import WaybillError
from waybill.topology import DEFAULT_VHOST


def delaying_queues(app: Celery, consumed: Collection[str], seconds: float) -> tuple[str, ...]:
    """The application's queues that nobody consumes and that a message leaves by itself within so many seconds.

    Not those of Celery's native delay: a task with a countdown is not due.
    """
    try:
        queues = record(app).topology(DEFAULT_VHOST).queues
    except WaybillError:  # what can't be declared delays nothing
        return ()
    return tuple(
        queue.name
        for queue in queues
        if queue.name not in consumed
        and queue.dead_letter_exchange is not None
        and isinstance(ttl := queue.setting("message-ttl"), int)
        and ttl <= seconds * 1000
        and not is_delayed(queue.name)
    )
