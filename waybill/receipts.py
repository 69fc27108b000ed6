"""Receipts without a change of the application: `celery -A proj worker -I waybill.receipts`.

Importing this module lets each worker that starts in this process send receipts, as `enable_receipts(app)` does. In a
process that starts no worker it does nothing. It imports Celery and Kombu only.

The same by a variable: `CELERY_WORKER_INCLUDE=waybill.receipts`.
"""

from __future__ import annotations

from typing import Any

from celery.signals import worker_init

from waybill.testing.receipts import enable_receipts


@worker_init.connect
def _enable(sender: Any, **_: object) -> None:
    """Celery sends this after it has loaded the modules of `-I`, and before it makes the worker's parts."""
    enable_receipts(sender.app)
