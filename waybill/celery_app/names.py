"""How Celery and Kombu name the queues and exchanges that they make themselves. Nothing is imported here."""

from __future__ import annotations

BROADCAST_PREFIX = "bcast."
"""How Kombu names the queue of a Broadcast: `bcast.<uuid>`; in a topology the alias stands in place of the uuid."""

DELAYED_PREFIX = "celery_delayed_"
"""The names of Celery's native delayed delivery: the exchanges and queues `celery_delayed_27` down to
`celery_delayed_0`, and the exchange `celery_delayed_delivery`."""


MARKER = "waybill.marker"
"""The task of a watch that does nothing: receiving it proves that everything before it in its queue was received."""


def worker_name(node_name: str) -> str:
    """A worker's name without its host: what stands before the `@` of `-n`."""
    return node_name.partition("@")[0]


def is_delayed(name: str) -> bool:
    """Whether an exchange or queue is one of those of Celery's native delayed delivery."""
    return name.startswith(DELAYED_PREFIX)
