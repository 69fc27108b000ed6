"""A Celery task without Celery, as a service in another language would send it: python -m publishers.raw

The whole of the task protocol that a worker needs stands in `message`: three headers and a JSON body.
Source: https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import click
import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, UnroutableError

import exchanges
from publishers.support.program import publisher
from publishers.support.stage import Stage
from waybill.celery_app.publication import Publication, check_names
from waybill.cli.running import run
from waybill.errors import InputError, UnknownName
from worker.app import app

# AMQP's reply code for an exchange that isn't there.
NOT_FOUND = 404


def message(task: str, *args: Any) -> tuple[pika.BasicProperties, bytes]:
    """A task message of protocol 2: properties and body."""
    task_id = str(uuid.uuid4())
    headers = {"lang": "any", "task": task, "id": task_id}
    properties = pika.BasicProperties(
        correlation_id=task_id,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=pika.DeliveryMode.Persistent,
        headers=headers,
    )
    kwargs: Mapping[str, Any] = {}
    canvas = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return properties, json.dumps([args, kwargs, canvas]).encode()


def lesson(
    stage: Stage, exchange: str = "media", routing_key: str = "media.video", task: str = "worker.tasks.encode"
) -> None:
    """Publish one task with plain pika; the worker runs it like any other."""
    if not stage.speaks_amqp():
        return
    properties, body = message(task, "a-film-from-elsewhere")
    stage.follow(
        Publication(
            exchange=exchange,
            routing_key=routing_key,
            headers=properties.headers,
            priority=None,
            expiration=None,
            task=task,
            task_id=properties.correlation_id,
            is_returned=not publish(app.conf.broker_url, exchange, routing_key, properties, body),
        )
    )
    stage.show()


def publish(url: str, exchange: str, routing_key: str, properties: pika.BasicProperties, body: bytes) -> bool:
    """Publish, confirmed and mandatory; False when RabbitMQ returned it.

    Raises:
        UnknownName: the broker has no such exchange.
        InputError: it refuses for another reason, in its own words.
    """
    check_names(exchange, routing_key, properties.headers or {})
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange, routing_key, body, properties, mandatory=True)
    except UnroutableError:
        return False
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        if error.reply_code != NOT_FOUND:
            raise InputError(f"RabbitMQ refuses the publication: {error.reply_text}") from error
        known = {exchange.name for exchange in exchanges.EXCHANGES}
        raise UnknownName("exchange", exchange, known, f"vhost {app.connection().virtual_host!r}") from error
    finally:
        if connection.is_open:
            connection.close()
    return True


main = publisher(exchanges.QUEUES)(
    click.option("--exchange", default="media", show_default=True)(
        click.option("--routing-key", default="media.video", show_default=True)(
            click.option("--task", default="worker.tasks.encode", show_default=True)(lesson)
        )
    )
)

if __name__ == "__main__":
    run(main, name="python -m publishers.raw")
