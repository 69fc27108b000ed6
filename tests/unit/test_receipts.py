"""Receipts, without a worker."""

from __future__ import annotations

from celery import Celery

from waybill import receipts


def test_enabling_twice_is_once() -> None:
    app = Celery("twice")
    receipts.enable(app)
    receipts.enable(app)
    assert app.steps["consumer"] == {receipts.ReceiptSender}
    assert receipts.MARKER in app.tasks
