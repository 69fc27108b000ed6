"""The application of the README: news by topic, and mails that are sent later."""

from celery import Celery
from kombu import Exchange, Queue

news = Exchange("news", type="topic")

app = Celery("shop", broker="amqp://guest:guest@127.0.0.1:5672//")
app.conf.task_default_queue = "mails"
app.conf.task_queues = [
    Queue("mails"),
    Queue("usa_all", news, routing_key="usa.#"),
    Queue("all_news", news, routing_key="*.news"),
]


@app.task
def report(headline: str) -> None:
    """Print a headline."""


@app.task
def remind(customer: str) -> None:
    """Send a mail."""


def order(customer: str) -> None:
    """Remind a customer of what is in the basket, an hour later."""
    remind.apply_async((customer,), countdown=3600)
