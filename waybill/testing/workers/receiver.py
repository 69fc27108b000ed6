"""`python -m waybill.testing.workers.receiver ARGUMENTS`: `celery ARGUMENTS`, as the pytest plugin runs a worker.

It sends receipts whatever the application does. It receives and doesn't run, unless `WAYBILL_RUN_TASKS` is 1. What it
publishes is confirmed, so that it is in its queues before the worker says that it received anything else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import celery
from celery import __main__ as program

RUN_TASKS = "WAYBILL_RUN_TASKS"
# The test databases of Django: a JSON object from aliases to names.
DATABASES = "WAYBILL_DJANGO_DATABASES"


def prepare(sender: Any, **_: object) -> None:
    """Change the worker before its parts are made; `sender` is the worker."""
    from waybill.testing.receipts import ReceiptSender, enable_receipts

    app = sender.app
    enable_receipts(app)
    ReceiptSender.gather = 0.0  # what gathers is lost with a worker that is killed
    app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), "confirm_publish": True}
    if names := os.environ.get(DATABASES):
        _use_databases(json.loads(names))
    if os.environ.get(RUN_TASKS) != "1":
        from waybill.testing.receiving import Receiving

        app.steps["consumer"].discard(ReceiptSender)
        app.steps["consumer"].add(Receiving)


def _use_databases(names: Mapping[str, str]) -> None:
    """Let Django use the databases of the test; nothing has been asked of any database yet."""
    from django.db import connections

    for alias, name in names.items():
        connections.databases[alias]["NAME"] = name
        connections[alias].settings_dict["NAME"] = name


def main() -> None:
    """Run Celery's program; the pools that patch the standard library do so first."""
    sys.argv[0] = str(program.__file__)
    celery.maybe_patch_concurrency()
    from celery.signals import worker_init

    worker_init.connect(prepare)
    program.main()


if __name__ == "__main__":
    main()
