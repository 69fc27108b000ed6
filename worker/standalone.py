"""The same application by its constructor alone: `celery -A worker.standalone worker -n standalone@%h -Q standalone`.

`worker/app.py` takes its settings from a module, by name. Here they are arguments: nothing to import beside this file,
and nothing to find when a setting surprises. Both give the same effective settings.
"""

from __future__ import annotations

from celery import Celery

from waybill import enable_receipts
from worker import celeryconfig
from worker.modules import MODULES

app = Celery(
    "showcase",
    include=MODULES,
    changes={name: value for name, value in vars(celeryconfig).items() if name.islower() and not name.startswith("_")},
)
enable_receipts(app)
