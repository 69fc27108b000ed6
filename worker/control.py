"""A remote-control command of our own: a worker's prefetch, changed while it runs.

Celery changes the prefetch itself with the size of the pool and with each task that waits for its countdown; there is
no command for it, but it takes commands: a function with this decorator, in a module that the worker imports.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command


@control_command(args=[("count", int)], signature="<messages>")
def prefetch(state: Any, count: int) -> dict[str, int]:
    """Let the worker hold this many unacknowledged messages.

    RabbitMQ from 4.3 keeps a consumer's prefetch as it was when the consumer was added; what is set here counts for
    those that are added later. Up to 4.2 it counts at once, for all the worker's queues together.
    """
    qos = state.consumer.qos
    before, qos.value = qos.value, count
    qos.update()
    return {"ok": count, "before": before}
