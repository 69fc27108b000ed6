"""What a channel and its halves need of their connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from waybill.broker.accounts import Rights
from waybill.broker.handshake import Agreement
from waybill.broker.output import Output
from waybill.broker.queue import Owner


class Client(Owner, Protocol):
    """The connection, as its channels see it.

    Attributes:
        name: `peer host:port -> host:port`, as RabbitMQ names a connection.
        agreed: who the client is and what it understands.
        rights: what its user may do.
        output: what it is to be sent.
        has_published: it publishes, and so is blocked when the queues hold too much.
        to_confirm: called when all is taken that has come at once.
    """

    name: str
    agreed: Agreement
    rights: Rights
    output: Output
    has_published: bool
    to_confirm: list[Callable[[], None]]

    def forget_channel(self, number: int) -> None:
        """A channel is closed: its number may be used again."""
