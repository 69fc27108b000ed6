"""A task that tells what the call that published it said."""

from __future__ import annotations

from time import time
from typing import Any

from celery import Task

from worker.app import app


@app.task(bind=True)
def told(self: Task[Any, Any]) -> dict[str, Any]:
    """What the message carried beside the arguments, and when it ran, in seconds since the epoch."""
    request = self.request
    return {"headers": request.headers, "eta": request.eta, "expires": request.expires, "ran": time()}
