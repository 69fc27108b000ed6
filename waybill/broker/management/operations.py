"""What the management API writes: the operations of AMQP's methods, on a channel of its own, as RabbitMQ does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pamqp import base, commands

from waybill.broker import methods, operations
from waybill.broker.accounts import Rights
from waybill.broker.channel import Channel
from waybill.broker.firehose import NODE
from waybill.broker.frames import FrameReader
from waybill.broker.handshake import Agreement
from waybill.broker.management import content
from waybill.broker.management.call import Problem
from waybill.broker.output import Output
from waybill.broker.queue import Queue
from waybill.broker.vhost import VHost
from waybill.errors import ProtocolRefusal, TopologyError

ROOM = 131_072
"""Bytes of a body in one frame; the frames go nowhere."""

MODES = {
    "ack_requeue_true": "return",
    "ack_requeue_false": "ack",
    "reject_requeue_true": "fail",
    "reject_requeue_false": "reject",
}
"""`ackmode` of a `get` -> what becomes of the messages, see `Deliveries.apply`."""


class Inside:
    """A client of the broker in the broker itself, as `client.Client` for its channel.

    Args:
        user: on whose behalf.
        rights: what he may do.
    """

    def __init__(self, user: str, rights: Rights, vhost: VHost) -> None:
        self.name = f"<{NODE}>"
        self.agreed = Agreement(user, vhost=vhost.name)
        self.rights = rights
        self.output = Output(1 << 30, lambda: None)
        self.output.room = ROOM
        self.owned: set[Queue] = set()
        self.has_published = False
        self.to_confirm: list[Any] = []
        self.channel = Channel(1, self, vhost)

    def forget_channel(self, number: int) -> None:
        """There is one channel, and it ends with this."""

    def ask(self, kind: type[base.Frame], **arguments: Any) -> base.Frame | None:
        """Have a method done.

        Raises:
            Problem: it is refused.
        """
        try:
            return operations.OPERATIONS[kind.index](self.channel, methods.answer(kind, **arguments))
        except (TopologyError, ProtocolRefusal) as refusal:
            raise Problem.of(refusal) from None

    # messages

    def publish(self, exchange: str, key: str, properties: Mapping[str, Any], body: bytes) -> bool:
        """Publish a message, mandatory and confirmed; returns whether a queue took it.

        Raises:
            Problem: it is refused, or a queue is full and says so.
        """
        header = content.header_of(properties, len(body))
        method = methods.answer(commands.Basic.Publish, ticket=0, exchange=exchange, routing_key=key, mandatory=True)
        publisher = self.channel.publisher
        publisher.count = 0
        try:
            publisher.publish(methods.encode(method, 1)[7:-1], header, body)
        except (TopologyError, ProtocolRefusal) as refusal:
            if refusal.reply_code == 404:
                raise Problem(404, "not_found", "exchange_not_found") from None
            raise Problem.of(refusal, is_coded=True) from None
        publisher.flush_confirms()
        reader = FrameReader()
        reader.limit = ROOM + 100
        answered = {payload[:4] for _, _, payload in reader.feed(self.output.take())}
        if methods.id_of(commands.Basic.Nack) in answered:
            raise Problem.bad("rejected Unable to publish message. Check queue limits.")
        return methods.id_of(commands.Basic.Return) not in answered

    def get(self, queue: str, count: int, mode: str, encoding: str, truncate: int | None) -> list[dict[str, Any]]:
        """Take messages out of a queue, show them, and settle them all.

        Raises:
            Problem: there is no such queue, or it is refused.
        """
        taken = self.channel.deliveries
        rows: list[dict[str, Any]] = []
        try:
            while len(rows) < count:
                method = methods.answer(commands.Basic.Get, queue=queue, no_ack=False)
                if operations.get(self.channel, method) is not None:
                    break
                self.output.take()  # nobody reads it
                entry, source, _ = taken.unacked[taken.next_tag - 1]
                message = entry.message
                payload, how = content.shown(message.body, encoding, truncate)
                rows.append(
                    {
                        "payload_bytes": len(message.body),
                        "redelivered": entry.acquired > 1 or entry.was_seen,
                        "exchange": message.exchange,
                        "routing_key": message.routing_key,
                        "message_count": source.ready.count,
                        "properties": content.properties_of(message.header),
                        "payload": payload,
                        "payload_encoding": how,
                    }
                )
        except (TopologyError, ProtocolRefusal) as refusal:
            if refusal.reply_code == 404:
                raise Problem(404, "not_found", "queue_not_found") from None
            raise Problem.of(refusal, is_coded=True) from None
        finally:
            taken.apply(MODES[mode], taken.take_all())
        return rows
