"""Let an example happen: on a vhost of its own, declared and published by Celery itself, each queue read to its end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from kombu import Connection, Consumer, Producer, Queue

from tests.support.programs import PATIENCE
from waybill.celery_app import installed
from waybill.rabbitmq.management import Management
from waybill.testing.brokers import Address


@contextmanager
def own_vhost(broker: Address) -> Iterator[Address]:
    """A vhost for one example."""
    address = broker.with_vhost(f"check-{uuid.uuid4().hex[:12]}")
    assert address.management_url is not None
    with Management(address.management_url, address.vhost) as management:
        management.create_vhost()
        try:
            yield address
        finally:
            management.delete_vhost()


class Rig:
    """An example's application at a broker, which it uses already (`use_broker`).

    Args:
        module: the example, loaded.
        address: the broker's, with the vhost.
    """

    def __init__(self, module: ModuleType, address: Address) -> None:
        url = address.url
        self.address = address
        self.module = module
        self.app = module.app
        self.app.conf.broker_connection_retry_on_startup = True
        self.connection: Connection = Connection(url, transport_options={"confirm_publish": True})
        self.channel: Any = self.connection.channel()

    def close(self) -> None:
        self.connection.release()
        self.app.close()

    def declare(self) -> None:
        """Declare what the application's workers do."""
        for queue in self.app.amqp.queues.values():
            queue(self.channel).declare()
        if installed.delays_natively(self.app):
            installed.declare_delayed_delivery(self.connection, self.app.amqp.queues.values(), "quorum")

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        """Send the example's task, confirmed: when this returns, every queue that gets it has it."""
        producer = Producer(self.connection)
        return getattr(self.module, task).apply_async(args, producer=producer, retry=False, **options)

    def publish(self, exchange: str, routing_key: str = "", **properties: Any) -> None:
        """Publish something that isn't a task."""
        Producer(self.connection).publish({}, exchange=exchange, routing_key=routing_key, **properties)

    def held(self) -> dict[str, int]:
        """Queue, by its alias where it has one -> how many messages were in it; they are taken out."""
        names = {queue.name: queue.alias or queue.name for queue in self.app.amqp.queues.values()}
        return {shown: count for name, shown in names.items() if (count := len(self.taken(name)))}

    def taken(self, queue: str) -> list[Any]:
        """The messages of a queue, taken out."""
        return list(iter(lambda: self.channel.basic_get(queue, no_ack=True), None))

    def wait_for(self, queues: tuple[str, ...]) -> str:
        """The first of these queues in which a message arrives."""
        arrived: list[str] = []
        with self.connection.channel() as channel:
            for queue in queues:
                channel.basic_consume(queue, no_ack=True, callback=lambda _, name=queue: arrived.append(name))
            while not arrived:
                self.connection.drain_events(timeout=PATIENCE)
        return arrived[0]

    def told(self, count: int) -> list[Any]:
        """The next messages of the queue `told`, in which a worker of the example says what it does."""
        heard: list[Any] = []

        def hear(word: Any, message: Any) -> None:
            if len(heard) < count:  # the one after the last goes back when the channel is closed
                heard.append(word)
                message.ack()

        with (
            self.connection.channel() as channel,
            Consumer(channel, [Queue("told")], callbacks=[hear], prefetch_count=1),
        ):
            while len(heard) < count:
                self.connection.drain_events(timeout=PATIENCE)
        return heard
