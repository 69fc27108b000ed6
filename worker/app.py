"""The Celery application: `celery -A worker worker -n videos@%h -Q videos`."""

from __future__ import annotations

from celery import Celery

from waybill import enable_receipts
from worker.modules import MODULES

app = Celery("showcase", include=MODULES)
app.config_from_object("worker.celeryconfig")

# Every worker says what it received, and from which queue.
enable_receipts(app)
