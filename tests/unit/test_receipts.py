"""Receipts, without a worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery
from kombu import Queue

from waybill import check_app, enable_receipts
from waybill.celery_app.names import MARKER
from waybill.testing import receipts


def test_enabling_twice_is_once() -> None:
    app = Celery("twice")
    enable_receipts(app)
    enable_receipts(app)
    assert app.steps["consumer"] == {receipts.ReceiptSender}
    assert MARKER in app.tasks


def test_the_marker_is_no_task_of_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = Celery("bare", broker="amqp://", set_as_current=False)
    app.conf.update(task_queues=[Queue("work")], task_routes={"bare.noop": {"queue": "work"}})

    @app.task(name="bare.noop")
    def noop() -> None: ...

    enable_receipts(app)
    (tmp_path / "Procfile").write_text("work: celery -A bare worker -n work@%h -Q work\n")
    found = check_app(app, fleet=tmp_path / "Procfile").findings
    assert MARKER not in repr(found)
