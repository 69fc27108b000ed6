"""One open channel: its two halves, its consumers, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybill.broker.consumers import Consumer
from waybill.broker.content import Content
from waybill.broker.deliveries import Deliveries
from waybill.broker.frames import END_BYTE, METHOD, pack_head
from waybill.broker.publisher import Publisher

if TYPE_CHECKING:
    from waybill.broker.connection import Connection
    from waybill.broker.queue import Queue
    from waybill.broker.vhost import VHost


class Channel:
    """One open channel.

    Args:
        number: as in its frames.

    Attributes:
        is_closing: it was closed with an error and its client has not said `close-ok` yet.
        prefetch: what `basic.qos` has set for the consumers to come.
        last_queue: the queue declared last, which an empty name stands for.
        reply_consumer: the tag of its direct reply-to consumer.
        reply_token: what stands behind `amq.rabbitmq.reply-to.` in the address of its replies.
    """

    __slots__ = (
        "connection",
        "consumers",
        "content",
        "deliveries",
        "is_closing",
        "last_queue",
        "number",
        "prefetch",
        "publisher",
        "reply_consumer",
        "reply_token",
        "vhost",
    )

    def __init__(self, number: int, connection: Connection, vhost: VHost) -> None:
        self.number = number
        self.connection = connection
        self.vhost = vhost
        self.content = Content()
        self.publisher = Publisher(self)
        self.deliveries = Deliveries(self)
        self.consumers: dict[str, Consumer] = {}
        self.is_closing = False
        self.prefetch = 0
        self.last_queue = ""
        self.reply_consumer: str | None = None
        self.reply_token: str | None = None

    def begin_transaction(self) -> None:
        """From here on, publications and settlements are held back."""
        self.publisher.held = []
        self.deliveries.held = []

    def cancelled(self, consumer: Consumer) -> None:
        """A consumer's queue is gone."""
        self.consumers.pop(consumer.tag, None)
        if self.connection.is_told_of_cancels and not self.is_closing:
            method = b"\x00\x3c\x00\x1e" + consumer.tag_bytes + b"\x01"
            self.connection.write(pack_head(METHOD, self.number, len(method)) + method + END_BYTE)

    def end(self) -> None:
        """The channel is over: its consumers leave, what was not settled goes back."""
        self.give_back(self.leave())

    def expect_no_acks(self) -> None:
        """The connection is refused: quorum queues take back what they still deliver here, `no_ack` or not."""
        for consumer in self.consumers.values():
            if consumer.queue.is_quorum:
                consumer.no_ack = False

    def leave(self) -> list[Queue]:
        """The channel's consumers leave; returns the queues that are over with them."""
        self.is_closing = True
        consumers, self.consumers = self.consumers, {}
        for consumer in consumers.values():
            consumer.is_gone = True
        return [one.queue for one in consumers.values() if one.queue.unsubscribe(one)]

    def give_back(self, over: list[Queue]) -> None:
        """The queues that are over go, with what they have delivered; the rest of what was not settled goes back."""
        for queue in over:
            if not queue.is_deleted:
                self.vhost.delete_queue(queue)
        unsettled = self.deliveries.take_all()
        for _, taken in self.deliveries.held or ():
            unsettled |= taken
        self.deliveries.give_up(dict(sorted(unsettled.items())))
        self.drop_reply_consumer()

    def drop_reply_consumer(self) -> None:
        """The direct reply-to consumer leaves."""
        if self.reply_token is not None:
            del self.vhost.reply_consumers[self.reply_token]
            self.reply_token = self.reply_consumer = None
