"""What explain says is what a broker does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pika
import pytest
from celery import Celery
from celery.signals import after_task_publish, before_task_publish
from kombu import Exchange, Queue

from tests.support.apps.explained import PUBLISHED, app
from waybill.celery_app import publication
from waybill.celery_app.declared import from_celery
from waybill.celery_app.installed import settings_overridden
from waybill.explain import explain_task
from waybill.testing import brokers
from waybill.testing.brokers import Address


@pytest.fixture(scope="module")
def live(waybill_vhost: Address) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """A broker that has all that the application declares."""
    # Confirmed: when apply_async returns, every queue that the message reaches without a delay holds it.
    confirmed = settings_overridden(app, {"broker_transport_options": {"confirm_publish": True}})
    with confirmed, brokers.use_broker(app, waybill_vhost.url):
        yield from declared_on(waybill_vhost)


def declared_on(address: Address) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """The broker's channel, once all is declared there."""
    connection = pika.BlockingConnection(pika.URLParameters(address.url))
    channel = connection.channel()
    declared = from_celery(app)
    for exchange in declared.exchanges:
        channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable)
    for queue in declared.queues:
        channel.queue_declare(
            queue.name, False, queue.durable, queue.exclusive, queue.auto_delete, dict(queue.arguments)
        )
    for binding in declared.bindings:
        bind = channel.queue_bind if binding.destination_type == "queue" else channel.exchange_bind
        bind(binding.destination, binding.source, binding.binding_key, dict(binding.arguments))
    yield channel
    connection.close()


@pytest.mark.parametrize(("task", "call", "exchange", "routing_key", "queues"), PUBLISHED)
def test_the_broker_agrees(
    live: pika.adapters.blocking_connection.BlockingChannel,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    call: dict[str, Any],
    exchange: str,
    routing_key: str,
    queues: list[str],
) -> None:
    """Celery itself publishes, without us; each queue then holds exactly what was explained."""
    foretold = explain_task(app, f"explained.{task}", call).publication
    registered = app.tasks[f"explained.{task}"]
    monkeypatch.setattr(registered, "typing", False)
    monkeypatch.setattr(registered, "ignore_result", True)
    # In the call: before Celery 5.6 the task's own `ignore_result` doesn't keep a producer from the result backend.
    task_id = registered.apply_async(**call, ignore_result=True).id
    for name in queues:
        # A delayed message comes when its delay has passed, every other is there.
        got = next(live.consume(name, auto_ack=True, inactivity_timeout=20))
        live.cancel()
        method, properties, _ = got
        assert properties.correlation_id == task_id
        assert method.routing_key == routing_key
        assert method.exchange in (exchange, "celery_delayed_delivery")
        assert (properties.priority or 0) == (foretold.priority or 0)
    # One exchange hands a message to all its queues at once: what these don't hold now isn't coming.
    for queue in from_celery(app).queues:
        if not queue.name.startswith("celery_delayed"):
            assert live.basic_get(queue.name, auto_ack=True) == (None, None, None)


def other_app(broker: str = "amqp://nobody@broker.invalid//", **settings: Any) -> Celery:
    """An application with Celery's defaults, and a task that fails the test when it's run."""
    made = Celery("other", broker=broker, backend="redis://backend.invalid/0", set_as_current=False)
    made.conf.update(task_queues=[Queue("videos", Exchange("videos"), "videos")], **settings)

    @made.task(name="other.plain", shared=False)
    def plain() -> None:
        raise AssertionError("the task was run")

    return made


def test_a_live_publication_is_not_eager_and_awaits_no_result(waybill_vhost: Address) -> None:
    eager = other_app(waybill_vhost.url, task_always_eager=True)
    with brokers.connect(eager) as connection:
        sent = publication.publish(eager, connection, "other.plain", queue="videos")
        assert (sent.routing_key, sent.is_returned) == ("videos", False)


def test_a_live_publication_calls_the_handlers(waybill_vhost: Address) -> None:
    """Those that explain leaves alone, before it and after it."""
    app = other_app(waybill_vhost.url)
    heard: list[str] = []

    def before(headers: dict[str, Any], **_: Any) -> None:
        headers["stamped"] = 1
        heard.append("before")

    def after(**_: Any) -> None:
        heard.append("after")

    before_task_publish.connect(before, sender="other.plain")
    after_task_publish.connect(after, sender="other.plain")
    with brokers.connect(app) as connection:
        for _ in range(2):
            explain_task(app, "other.plain", {"queue": "videos"})
            assert heard == []
            sent = publication.publish(app, connection, "other.plain", queue="videos")
            assert sent.headers["stamped"] == 1
            assert heard == ["before", "after"]
            heard.clear()
