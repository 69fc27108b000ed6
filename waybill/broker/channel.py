"""One open channel: its two halves, and its end."""

from __future__ import annotations

from pamqp import base

from waybill.broker.client import Client
from waybill.broker.content import Content
from waybill.broker.deliveries import Deliveries
from waybill.broker.publisher import Publisher
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
    """

    __slots__ = (
        "client",
        "content",
        "deliveries",
        "is_closing",
        "last_queue",
        "number",
        "prefetch",
        "publisher",
        "vhost",
    )

    def __init__(self, number: int, client: Client, vhost: VHost) -> None:
        self.number = number
        self.client = client
        self.vhost = vhost
        self.content = Content(vhost.account)
        self.publisher = Publisher(number, client, vhost)
        self.deliveries = Deliveries(number, client, vhost)
        self.is_closing = False
        self.prefetch = 0
        self.last_queue = ""

    def write(self, method: base.Frame) -> None:
        """Have a method written to the client."""
        self.client.output.write_method(method, self.number)

    def begin_transaction(self) -> None:
        """From here on, publications and settlements are held back."""
        self.publisher.drop_held()
        self.publisher.held = []
        self.deliveries.held = []

    def add_reply_consumer(self, tag: str) -> None:
        """A direct reply-to consumer joins."""
        self.deliveries.reply_consumer = tag
        self.publisher.reply_token = self.vhost.add_reply_consumer(self.deliveries)

    def drop_reply_consumer(self) -> None:
        """The direct reply-to consumer leaves."""
        if self.publisher.reply_token is not None:
            del self.vhost.reply_consumers[self.publisher.reply_token]
            self.publisher.reply_token = self.deliveries.reply_consumer = None

    def end(self) -> None:
        """The channel is over: its consumers leave, what was not settled goes back."""
        self.requeue(self.leave())

    def leave(self) -> list[Queue]:
        """The channel's consumers leave; returns the queues that are over with them."""
        self.is_closing = True
        self.publisher.drop_confirms()
        self.publisher.drop_held()
        self.content.drop()
        return self.deliveries.leave()

    def requeue(self, over: list[Queue]) -> None:
        """The queues that are over go, with what they have delivered; the rest of what was not settled goes back."""
        for queue in over:
            if not queue.is_deleted:
                self.vhost.delete_queue(queue)
        unsettled = self.deliveries.take_all()
        for _, taken in self.deliveries.held or ():
            unsettled |= taken
        self.deliveries.requeue_all(dict(sorted(unsettled.items())))
        self.drop_reply_consumer()
