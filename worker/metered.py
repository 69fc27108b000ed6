"""Tasks with a rate limit.

A limit is kept by each worker for itself: so many starts of this task in a second (`/s`), minute or hour, whatever the
number of its processes; two workers do twice as much. Without a limit of its own a task has the application's
`task_default_rate_limit`; 0 is a limit of its own that means none.
"""

from __future__ import annotations

from worker.app import app

RATE = "10/s"


@app.task(rate_limit=RATE)
def send_text(text: str = "") -> str:
    """Send a text message; whoever sends them for us takes ten in a second from each worker."""
    return text
