"""What a worker does beside its tasks."""

from __future__ import annotations

import os
from pathlib import Path

from celery.signals import heartbeat_sent, worker_ready
from celery.worker.consumer import Consumer

import exchanges
from exchanges.plugins import PLUGINS
from waybill.provision import missing_exchange_types


@worker_ready.connect
def declare_the_rest(sender: Consumer, **_: object) -> None:
    """Declare what no queue mentions, such as the binding from `shop` to `billing`.

    A worker declares only the queues that it consumes; whichever worker comes first completes the picture.
    """
    with sender.app.connection_for_write() as connection:
        exchanges.declare(connection, missing_exchange_types(connection, PLUGINS))


@heartbeat_sent.connect
def touch(**_: object) -> None:
    """Show that this worker is alive: the container's health check looks at the age of the file."""
    if path := os.environ.get("WAYBILL_HEARTBEAT_FILE"):
        Path(path).touch()
