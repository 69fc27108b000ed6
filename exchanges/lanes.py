"""Lanes: one direct exchange, a queue for each kind of work, so that one kind doesn't wait for another.

What matters here is not the exchange but who consumes: `both` has one process for two queues, `quick` is a worker of
its own for the quick one, `clerk` cleans up, and `standalone` is an application that is made another way
(worker/standalone.py).

    exchange  routing key  queues      workers
    lanes     slow         slow        both
    lanes     quick        quick       both, quick
    lanes     cleanup      cleanup     clerk
    lanes     standalone   standalone  standalone
"""

from __future__ import annotations

from kombu import Exchange, Queue

lanes = Exchange("lanes", type="direct")

slow = Queue("slow", lanes, routing_key="slow")
quick = Queue("quick", lanes, routing_key="quick")
cleanup = Queue("cleanup", lanes, routing_key="cleanup")
standalone = Queue("standalone", lanes, routing_key="standalone")

QUEUES = (slow, quick, cleanup, standalone)
EXCHANGES = (lanes,)
