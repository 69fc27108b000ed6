"""What a worker does beside its tasks."""

from __future__ import annotations

from celery.signals import worker_ready
from celery.worker.consumer import Consumer

import exchanges


@worker_ready.connect
def declare_the_rest(sender: Consumer, **_: object) -> None:
    """Declare what no queue mentions, such as the binding from `shop` to `billing`.

    A worker declares only the queues that it consumes; whichever worker comes first completes the picture.
    """
    with sender.app.connection_for_write() as connection:
        exchanges.declare(connection)
