"""Default: where a task goes when nothing says otherwise.

`task_default_queue`, `task_default_exchange` and `task_default_routing_key` name this queue, exchange and key. Celery
sends such a task straight to the queue, through RabbitMQ's nameless exchange, because this exchange is a direct one.

    message                         queues
    a task without routing options  default
"""

from __future__ import annotations

from kombu import Exchange, Queue

default = Exchange("default", type="direct")

QUEUES = (Queue("default", default, routing_key="default"),)
EXCHANGES = (default,)
