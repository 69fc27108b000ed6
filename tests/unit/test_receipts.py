"""Receipts, without a worker."""

from __future__ import annotations

from celery import Celery

from waybill import enable_receipts
from waybill.testing import receipts


def test_enabling_twice_is_once() -> None:
    app = Celery("twice")
    enable_receipts(app)
    enable_receipts(app)
    assert app.steps["consumer"] == {receipts.ReceiptSender}
    assert receipts.MARKER in app.tasks
