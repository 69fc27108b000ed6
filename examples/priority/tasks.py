"""Priorities: RabbitMQ delivers waiting messages with a higher priority first."""

from celery import Celery
from kombu import Queue

app = Celery("tasks", broker="amqp://guest:guest@127.0.0.1:5672//")
app.conf.broker_transport_options = {"confirm_publish": True}
app.conf.task_queues = [Queue("work", queue_arguments={"x-max-priority": 10})]
app.conf.task_default_queue = "work"
# Priority orders waiting messages. What a worker has prefetched is in its memory, in the order of arrival.
app.conf.worker_prefetch_multiplier = 1
app.conf.task_acks_late = True


@app.task
def run(priority: int) -> None:
    """Print what arrived."""
    print(f"received priority {priority}")
