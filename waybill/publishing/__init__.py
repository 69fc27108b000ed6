"""Publish many tasks with Celery's own `apply_async`, and know what became of each.

outcome.py   the six states, and what each means
ledger.py    which messages the broker has answered for: tags, returns, refusals; no connection
line.py      the connection: writes many messages at once, hears the answers
session.py   Celery's producer in front of it
why.py       why no queue took a message
batch.py     `bulk_publish`
"""

from waybill.publishing.batch import Batch, bulk_publish
from waybill.publishing.outcome import Outcome, State

__all__ = ["Batch", "Outcome", "State", "bulk_publish"]
