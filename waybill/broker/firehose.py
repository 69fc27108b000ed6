"""The firehose: while a vhost is traced, a copy of each publication and delivery goes to `amq.rabbitmq.trace`.

After rabbit_trace.erl, as measured on RabbitMQ 4.3.6. The routing key is `publish.<exchange>` or `deliver.<queue>`, the
body is the message's, and the headers say who, where, and with which properties. What goes through the exchange itself
is not traced, and neither are acknowledgements nor the ways of dead letters.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass

from waybill.broker import tables
from waybill.broker.client import Client
from waybill.broker.message import Message
from waybill.broker.properties import HEADERS, headers_of, split

EXCHANGE = "amq.rabbitmq.trace"

NODE = f"waybill@{socket.gethostname().partition('.')[0]}"
"""The node's name, as a trace gives it."""

NAMES = {
    2: "cluster_id",
    3: "app_id",
    4: "user_id",
    5: "type",
    6: "timestamp",
    7: "message_id",
    8: "expiration",
    9: "reply_to",
    10: "correlation_id",
    11: "priority",
    12: "delivery_mode",
    13: "headers",
    14: "content_encoding",
    15: "content_type",
}
"""The flag bit of each property -> the name that the trace gives it, in the trace's order."""

NUMBERS = frozenset({6, 11, 12})


@dataclass(frozen=True, slots=True)
class Party:
    """Who published, or is given a delivery.

    Attributes:
        connection: `peer host:port -> host:port`.
    """

    connection: str
    channel: int
    user: str
    vhost: str
    node: str = NODE

    @classmethod
    def of(cls, client: Client, channel: int, vhost: str) -> Party:
        """A channel of a client's."""
        return cls(client.name, channel, client.agreed.user, vhost)


def published(message: Message, queues: Iterable[str], party: Party) -> Message:
    """The copy of a publication.

    Args:
        queues: those that it was routed to.
    """
    routed = ("routed_queues", tables.array(map(tables.long_string, queues)))
    return _copy(f"publish.{message.exchange}", message, message.header, party, routed)


def delivered(message: Message, header: bytes, queue: str, party: Party, *, is_redelivered: bool) -> Message:
    """The copy of a delivery.

    Args:
        header: of the content, as it is delivered.
    """
    again = ("redelivered", tables.integer(is_redelivered))
    return _copy(f"deliver.{queue}", message, header, party, again)


def _copy(key: str, message: Message, header: bytes, party: Party, more: tuple[str, bytes]) -> Message:
    entries = [
        ("channel", tables.integer(party.channel)),
        ("connection", tables.long_string(party.connection)),
        ("exchange_name", tables.long_string(message.exchange)),
        ("node", tables.long_string(party.node)),
        ("properties", tables.table(_properties(header))),
        ("routing_keys", tables.array(map(tables.long_string, message.all_keys))),
        ("user", tables.long_string(party.user)),
        ("vhost", tables.long_string(party.vhost)),
        more,
    ]
    data = tables.join(sorted(entries))
    flags = (1 << HEADERS).to_bytes(2, "big")
    content = header[:12] + flags + len(data).to_bytes(4, "big") + data
    address = tables.short_string(EXCHANGE) + tables.short_string(key)
    return Message(EXCHANGE, key, address, content, message.body)


def _properties(header: bytes) -> Iterable[tuple[str, bytes]]:
    parts = split(header)
    for bit, name in NAMES.items():
        part = parts.get(bit)
        if part is None:
            continue
        if bit == HEADERS:
            fields = headers_of(header)
            yield name, tables.table(sorted((one, field.raw) for one, field in fields.items()))
        elif bit in NUMBERS:
            yield name, tables.integer(int.from_bytes(part, "big"))
        else:
            yield name, b"S" + len(part[1:]).to_bytes(4, "big") + part[1:]
