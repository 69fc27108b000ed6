"""A Celery application for the broker's tests: what users do, in a few tasks.

The worker under test is started with `celery -A tests.support.apps.quorum worker`; the address is in the environment.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

URL_VARIABLE = "BROKER_TEST_URL"
QUORUM_VARIABLE = "BROKER_TEST_QUORUM"


def make_app(url: str, *, is_quorum: bool = False) -> Celery:
    """The application at a broker."""
    app = Celery("broker_tests", broker=url, backend="rpc://")
    arguments: dict[str, Any] = {"x-queue-type": "quorum"} if is_quorum else {"x-max-priority": 10}
    work = Exchange("work", type="topic")
    app.conf.update(
        task_queues=[Queue("work", work, routing_key="work.#", queue_arguments=arguments)],
        task_default_queue="work",
        task_default_exchange="work",
        task_default_exchange_type="topic",
        task_default_routing_key="work.any",
        broker_connection_retry_on_startup=True,
        task_send_sent_event=True,
        worker_send_task_events=True,
        worker_enable_remote_control=True,
    )
    app.task(name="add")(add)
    app.task(name="again", bind=True, max_retries=3)(again)
    return app


def add(x: int, y: int) -> int:
    """A task with a result."""
    return x + y


def again(self: Any, times: int) -> int:
    """A task that is retried so many times."""
    if self.request.retries < times:
        raise self.retry(countdown=0.05 if not os.environ.get(QUORUM_VARIABLE) else 1)
    return int(self.request.retries)


app = make_app(os.environ.get(URL_VARIABLE, "amqp://"), is_quorum=bool(os.environ.get(QUORUM_VARIABLE)))
