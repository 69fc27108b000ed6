"""The settings of the application, each with the reason why it is set."""

from __future__ import annotations

import os

import exchanges

broker_url = os.environ.get("WAYBILL_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//")
# Routing needs no results; docker-compose.yml names Redis here.
result_backend = os.environ.get("WAYBILL_RESULT_BACKEND")

# JSON only: whoever can write to a queue must not be able to run code in a worker.
accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"

# Where a task goes when nothing says otherwise: see exchanges/default.py. Celery also gives `task_default_routing_key`
# to each queue that was declared without a binding key; fanout and headers exchanges don't look at it.
task_queues = exchanges.QUEUES
task_default_queue = "default"
task_default_exchange = "default"
task_default_exchange_type = "direct"
task_default_routing_key = "default"

# Celery has no place for a binding between two exchanges; `waybill` reads it here.
waybill_exchange_bindings = exchanges.EXCHANGE_BINDINGS

# A misspelt queue name is an error and not a new queue that nobody consumes.
task_create_missing_queues = False

# A message counts as sent when RabbitMQ has confirmed it. An unroutable one is confirmed as well: to hear of it, a
# task is published with `mandatory=True` too, and only both together raise at the call that lost it.
broker_transport_options = {"confirm_publish": True}

# One message at a time for each process, acknowledged when it's done: what waits, waits in the queue, where priority
# reorders it and another worker can take it; and a task whose worker dies runs again.
worker_prefetch_multiplier = 1
task_acks_late = True

# Workers may be started before the broker, and what ran when the connection was lost is delivered again.
broker_connection_retry_on_startup = True
worker_cancel_long_running_tasks_on_connection_loss = True
