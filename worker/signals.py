"""What a worker does beside its tasks."""

from __future__ import annotations

import os
from pathlib import Path

from celery.signals import celeryd_after_setup, heartbeat_sent
from celery.utils.log import get_logger
from celery.worker import WorkController

import exchanges
from waybill.testing.brokers import missing_exchange_types

logger = get_logger(__name__)


@celeryd_after_setup.connect
def declare_everything(instance: WorkController, **_: object) -> None:
    """Declare the whole topology before the worker consumes.

    A worker by itself declares only the queues that it consumes: nobody would bind `billing` to `shop`. And whoever
    comes first, the order is the same, by which a consistent-hash exchange chooses.
    """
    with instance.app.connection_for_write() as connection:
        connection.ensure_connection(_wait_for_broker)
        exchanges.declare(connection, missing_exchange_types(connection, exchanges.TYPES))


def _wait_for_broker(error: Exception, interval: float) -> None:
    logger.warning("no broker yet (%s); the next attempt is in %.0f s", error, interval)


@heartbeat_sent.connect
def touch(**_: object) -> None:
    """Show that this worker is alive: the container's health check looks at the age of the file."""
    if path := os.environ.get("WAYBILL_HEARTBEAT_FILE"):
        Path(path).touch()
