"""An application to diff and declare; the environment names its broker."""

from __future__ import annotations

import os

from celery import Celery
from kombu import Exchange, Queue

app = Celery("diffed", broker=os.environ.get("WAYBILL_DIFF_BROKER", "amqp://"), set_as_current=False)
news = Exchange("news", "topic")
app.conf.update(
    task_queues=[
        Queue("celery"),
        Queue("usa", news, "usa.#"),
        Queue("resize", Exchange("pictures"), "resize", queue_arguments={"x-max-priority": 10}),
    ],
)


@app.task(name="diffed.resize")
def resize(name: str) -> str:
    """Give back the name."""
    return name


# Its exchanges and queues, as `diff` and `declare` write them where none is there.
NEW = (
    "+ exchange celery (direct)",
    "+ exchange news (topic)",
    "+ exchange pictures (direct)",
    "+ queue celery (classic)",
    "+ queue usa (classic)",
    "+ queue resize (classic) [x-max-priority=10]",
)
