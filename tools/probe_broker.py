"""Where a probe tries a broker, through Kombu alone: declarations of its own, publications, and what arrived."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

from amqp.exceptions import AMQPError
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.message import Message

from waybill.errors import FleetError
from waybill.testing import brokers

# Seconds in which what was published last has to arrive, and between two messages to a queue that may not listen yet.
ARRIVAL_TIMEOUT, PACE = 10.0, 0.05

# The bodies of the messages that open and close an observation.
READY, LAST = "ready", "last"


class Ground:
    """A connection of its own, confirmed, and names of its own; all that is declared goes with the block.

    Raises:
        BrokerUnavailable: nothing answers at the URL.

    Attributes:
        driver: Kombu's name for what speaks to the broker: `amqp`, `redis`, `memory`.
    """

    def __init__(self, url: str) -> None:
        self.connection = Connection(url, transport_options={"confirm_publish": True})
        brokers.open_connection(self.connection, url)
        self.driver = self.connection.transport.driver_type
        self._prefix = f"probe.{uuid.uuid4().hex[:8]}."
        self._declared: list[Exchange | Queue] = []

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.release()
        # Another connection: after a refusal this one may be closed.
        with self.connection.clone() as connection:
            for entity in reversed(self._declared):
                # RabbitMQ deletes what isn't there without a word; a virtual transport wants to know an exchange.
                with suppress(AMQPError, KeyError):
                    entity(connection.channel()).delete()

    def exchange(self, name: str, kind: str, **options: Any) -> Exchange:
        """Declare an exchange."""
        exchange = Exchange(self._prefix + name, kind, **options)
        self._declared.append(exchange)
        exchange(self.connection.default_channel).declare()
        return exchange

    def queue(self, name: str, exchange: Exchange | None = None, key: str = "", **options: Any) -> Queue:
        """Declare a queue, bound to the exchange where one is given."""
        queue = Queue(self._prefix + name, exchange, routing_key=key, **options)
        self._declared.append(queue)
        queue(self.connection.default_channel).declare()
        return queue

    def publish(self, exchange: Exchange | None, key: str, body: str = "message", **options: Any) -> bool:
        """Publish, mandatory and confirmed; False when the broker returned it."""
        returned: list[object] = []
        producer = Producer(self.connection, serializer="json")
        if self.driver == "amqp":  # the others return nothing, and that of Redis has nobody to tell
            producer.on_return = lambda *reason: returned.append(reason)
            producer.revive(self.connection.default_channel)
        name = exchange.name if exchange else ""
        producer.publish(body, exchange=name, routing_key=key, mandatory=True, **options)
        return not returned

    def get(self, queue: Queue, no_ack: bool = True) -> Message | None:
        """The next message of the queue; None when it is empty."""
        return queue(self.connection.default_channel).get(no_ack=no_ack)


class Observation:
    """The consumers of some queues: what each gets from the time when all of them listen.

        with Observation(ground, (one, other)) as seen:
            ground.publish(exchange, "key")
        seen.bodies

    Nothing is waited for but the message that is published last, into every queue.
    """

    def __init__(self, ground: Ground, queues: Iterable[Queue]) -> None:
        self.ground = ground
        self.queues = tuple(queues)
        self.bodies: dict[str, list[str]] = {queue.name: [] for queue in self.queues}
        self._exit = ExitStack()

    def __enter__(self) -> Observation:
        for queue in self.queues:
            consumer = Consumer(self.ground.connection.channel(), [queue], no_ack=True, accept=["json"])
            consumer.register_callback(lambda body, _, name=queue.name: self.bodies[name].append(body))
            self._exit.enter_context(consumer)
        self._send(READY)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._exit:
            if kind is None:
                self._send(LAST)
        self.bodies = {name: [body for body in got if body not in (READY, LAST)] for name, got in self.bodies.items()}

    @property
    def taken_by(self) -> list[str]:
        """The queues that got a message."""
        return [name for name, got in self.bodies.items() if got]

    def _send(self, mark: str) -> None:
        """Publish the mark into every queue until each has got it: a subscription on Redis begins at some time."""
        deadline = monotonic() + ARRIVAL_TIMEOUT
        while waiting := [queue for queue in self.queues if mark not in self.bodies[queue.name]]:
            if monotonic() > deadline:
                raise FleetError(f"nothing arrived in {waiting[0].name!r} within {ARRIVAL_TIMEOUT:.0f} s")
            for queue in waiting:
                self._into(queue, mark)
            with suppress(TimeoutError):
                while any(mark not in self.bodies[queue.name] for queue in waiting):
                    self.ground.connection.drain_events(timeout=PACE)

    def _into(self, queue: Queue, mark: str) -> None:
        """Through the default exchange; to a subscription, which that does not reach, through its own."""
        if self.ground.driver == "redis" and queue.exchange.type == "fanout":
            self.ground.publish(queue.exchange, queue.routing_key, mark)
        else:
            self.ground.publish(None, queue.name, mark)
