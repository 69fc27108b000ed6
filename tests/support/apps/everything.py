"""An application that makes Celery declare all it can: events, control, replies, delay, `Broadcast`, own queues."""

from __future__ import annotations

from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast

app = Celery("everything", broker="amqp://", backend="rpc://", set_as_current=False)
USA = Queue("usa", Exchange("news", "topic"), "usa.#")
app.conf.update(
    task_queues=[
        USA,
        Queue("resize", Exchange("pictures"), "resize", queue_arguments={"x-queue-type": "quorum"}),
        Broadcast("everyone"),
    ],
    task_default_queue="usa",
    broker_native_delayed_delivery_queue_type="classic",
    broker_connection_retry_on_startup=True,
    worker_direct=True,
)


@app.task(name="everything.add")
def add(x: int, y: int) -> int:
    """The sum."""
    return x + y
