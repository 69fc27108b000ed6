"""Fanout: every queue gets a copy. With Broadcast every *worker* does, by a queue of its own."""

from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast

signups = Exchange("signups", type="fanout")

app = Celery("tasks", broker="amqp://guest:guest@127.0.0.1:5672//")
app.conf.broker_transport_options = {"confirm_publish": True}
app.conf.task_queues = [
    Queue("mail", signups),  # the workers of one queue share its messages
    Queue("statistics", signups),
    Broadcast("announcements"),
]


@app.task(ignore_result=True)
def greet(customer: str) -> None:
    """Print who signed up."""
    print(f"received signup of {customer}")


@app.task(ignore_result=True)
def reload_settings() -> None:
    """Print that this worker was told."""
    print("received announcement")
