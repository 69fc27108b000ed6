"""An application to explain: a quorum queue, routes of every kind, options from everywhere; its broker is nowhere."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast

from waybill.celery_app.installed import HAS_NATIVE_DELAY

pictures = Exchange("pictures", "topic")
mail = Exchange("mail", "direct")

app = Celery("explained", broker="amqp://nobody:secret@broker.invalid//", backend="redis://backend.invalid/0")


def by_function(name: str, *_: Any, **__: Any) -> dict[str, Any] | None:
    """Route one task by a function."""
    return {"queue": "mail", "priority": 3} if name == "explained.functional" else None


app.conf.update(
    task_queues=[
        Queue("resize", pictures, "pictures.resize", queue_arguments={"x-queue-type": "quorum"}),
        Queue("mail", mail, "mail", queue_arguments={"x-max-priority": 5, "x-dead-letter-exchange": "pictures"}),
        Queue("short", mail, "short", message_ttl=1, max_length=10),
        Broadcast("everyone"),
    ],
    task_default_queue="mail",
    task_default_exchange="mail",
    task_default_routing_key="mail",
    task_create_missing_queues=False,
    task_routes=[
        {"explained.resize": {"queue": "resize"}, "explained.glob*": {"queue": "resize", "routing_key": "pictures.x"}},
        by_function,
    ],
)


@app.task(name="explained.resize")
def resize(path: str) -> None:
    """Routed by its exact name."""


@app.task(name="explained.globbed", priority=9)
def globbed() -> None:
    """Routed by a glob; its priority from the decorator."""


@app.task(name="explained.functional")
def functional() -> None:
    """Routed by a function."""


@app.task(name="explained.decorated", queue="short")
def decorated() -> None:
    """Routed by its decorator."""


@app.task(name="explained.plain")
def plain() -> None:
    """Routed by the defaults."""


QUORUM_KEY = "0." * 27 + "1.pictures.resize"

# A countdown on a quorum queue: kept by RabbitMQ, or by the worker where Celery can't delay natively.
DELAYED = ("resize", {"countdown": 1}, "celery_delayed_27", QUORUM_KEY, ["resize"])
WAITING = ("resize", {"countdown": 1}, "pictures", "pictures.resize", ["resize"])

# task, options -> exchange, routing key, queues
PUBLISHED: tuple[tuple[str, dict[str, Any], str, str, list[str]], ...] = (
    ("plain", {}, "", "mail", ["mail"]),
    ("resize", {}, "pictures", "pictures.resize", ["resize"]),
    ("resize", {"routing_key": "pictures.other"}, "pictures", "pictures.other", []),
    ("globbed", {}, "pictures", "pictures.x", []),
    ("functional", {}, "", "mail", ["mail"]),
    ("functional", {"queue": "resize"}, "pictures", "pictures.resize", ["resize"]),
    ("decorated", {}, "", "short", ["short"]),
    ("plain", {"queue": "mail", "routing_key": "gpu"}, "", "mail", ["mail"]),
    ("plain", {"exchange": "pictures"}, "", "mail", ["mail"]),
    ("plain", {"exchange": "pictures", "routing_key": "pictures.resize"}, "pictures", "pictures.resize", ["resize"]),
    ("plain", {"exchange": "mail", "routing_key": "short", "priority": 7}, "mail", "short", ["short"]),
    ("plain", {"headers": {"a": 1}, "expires": 30}, "", "mail", ["mail"]),
    ("plain", {"countdown": 1}, "", "mail", ["mail"]),
    DELAYED if HAS_NATIVE_DELAY else WAITING,
)
