"""Fanout: every bound queue gets a copy; the routing key is ignored.

Two uses that look alike and are not. Named queues: one copy for each *service*, shared by all of its workers.
Celery's `Broadcast`: one copy for each *worker*, since every worker brings a queue of its own (`bcast.<uuid>`).

    exchange       routing key  queues
    signups        anything     welcome_mail, statistics
    announcements  anything     bcast.<uuid>, one for each worker
"""

from __future__ import annotations

from kombu import Exchange, Queue
from kombu.common import Broadcast

# A queue declared without a key would get `task_default_routing_key` from Celery, and a second binding from anyone else
# who declares it. Where the exchange doesn't look at the key, one is given all the same.
ANY_KEY = "any"

signups = Exchange("signups", type="fanout")

# A Broadcast's queue is named anew in every process, so it is declared by the worker that consumes it and goes with it.
BROADCASTS = (Broadcast("announcements"),)
announcements = BROADCASTS[0].exchange

QUEUES = (
    Queue("welcome_mail", signups, routing_key=ANY_KEY),
    Queue("statistics", signups, routing_key=ANY_KEY),
    *BROADCASTS,
)
EXCHANGES = (signups, announcements)
