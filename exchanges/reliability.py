"""Reliability: a queue whose failures wait in delay queues, and whose poison is parked where no worker takes it.

A delay queue is a queue that nobody consumes: each message expires there (`x-message-ttl`) and its dead-letter exchange
hands it back to the work queue. There is one queue for each delay, because a classic queue only looks at its head: with
an expiration on each message, a short one would wait behind a long one.

    exchange       routing key  queues
    fragile        fragile      fragile; what a task rejects goes on to `parked`
    fragile.aside  delay_50ms   delay_50ms, and after 50 ms fragile; likewise delay_100ms and delay_200ms
    fragile.aside  parked       parked: `python -m publishers.deadletter list`
"""

from __future__ import annotations

from kombu import Exchange, Queue

fragile = Exchange("fragile", type="direct")
aside = Exchange("fragile.aside", type="direct")


def _delay(milliseconds: int) -> Queue:
    """A queue that hands its messages to `fragile` when they have waited this long."""
    name = f"delay_{milliseconds}ms"
    back = {"x-dead-letter-exchange": fragile.name, "x-dead-letter-routing-key": work.routing_key}
    return Queue(name, aside, routing_key=name, queue_arguments={"x-message-ttl": milliseconds, **back})


parked = Queue("parked", aside, routing_key="parked")
work = Queue(
    "fragile",
    fragile,
    routing_key="fragile",
    queue_arguments={"x-dead-letter-exchange": aside.name, "x-dead-letter-routing-key": parked.routing_key},
)

# Milliseconds before the second, the third and the fourth attempt: each twice the one before.
DELAYS = (50, 100, 200)
DELAY_QUEUES = tuple(map(_delay, DELAYS))

QUEUES = (work, *DELAY_QUEUES, parked)
EXCHANGES = (fragile, aside)
