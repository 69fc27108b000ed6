"""News by topic: a queue gets the messages whose routing key matches one of its binding keys."""

from celery import Celery
from kombu import Exchange, Queue

news = Exchange("news", type="topic")

app = Celery("tasks", broker="amqp://guest:guest@127.0.0.1:5672//")
app.conf.broker_transport_options = {"confirm_publish": True}
app.conf.task_queues = [
    Queue("usa", news, routing_key="usa.#"),  # usa, and any words after it
    Queue("headlines", news, routing_key="*.news"),  # one word, then news
]


@app.task
def report(key: str) -> None:
    """Print what arrived."""
    print(f"received {key}")
