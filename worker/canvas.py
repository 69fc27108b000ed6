"""Error callbacks, of both kinds: which kind it is, Celery tells by the number of arguments.

With one argument (`task_id`) it is published as a task, and runs where its routing sends it. With more (`request`,
`exception`, `traceback`) it is called where the task failed, in the same process, and no message is sent
(celery/backends/base.py, `_call_task_errbacks`).
"""

from __future__ import annotations

from celery.states import SUCCESS
from celery.worker.request import Context

from worker.app import app


@app.task
def tell_failure(task_id: str) -> str:
    """Say what a task failed with."""
    return type(app.AsyncResult(task_id).result).__name__


@app.task
def tell_failure_here(request: Context, exception: Exception, traceback: str, note: str = "") -> None:  # noqa: ARG001
    """Say it on the spot: under the id `note`, since what is called and not published has no result of its own."""
    app.backend.store_result(note, type(exception).__name__, SUCCESS)
