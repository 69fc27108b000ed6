"""The publishing half of a channel: publications in, returns and confirms out.

Written out by hand, for this and deliveries.py are what a broker does nearly all of its time. The checks and their
order are RabbitMQ's (rabbit_channel.erl, `basic.publish`).
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct

from pamqp import commands

from waybill.broker import firehose, properties
from waybill.broker.client import Client
from waybill.broker.content import announced_size
from waybill.broker.frames import END_BYTE, METHOD, content_frames, pack_head
from waybill.broker.limits import MAX_MESSAGE_BYTES
from waybill.broker.message import Message
from waybill.broker.methods import PUBLISH, id_of, undecodable
from waybill.broker.queue import Queue
from waybill.broker.tables import short_string
from waybill.broker.vhost import REPLY_TO, VHost
from waybill.errors import ProtocolRefusal
from waybill.routing.publishing import check_expiration

Publication = tuple[Message, tuple[str, ...], bool, tuple[Queue | None, ...]]
"""A routed message: itself, its queues' names, whether it is mandatory, and the queues as they were then."""

MAX_ADDRESSES = 1024
"""Pairs of exchange and routing key that a channel keeps decoded: most publish to a few, again and again."""

_SETTLED = Struct(">QB")
_ACK = id_of(commands.Basic.Ack)
_NACK = id_of(commands.Basic.Nack)
_RETURN = id_of(commands.Basic.Return)
_MANDATORY = 1
_IMMEDIATE = 2


class Publisher:
    """What a channel's client publishes.

    Args:
        number: the channel's.

    Attributes:
        count: publications since `confirm.select`, None before it.
        held: what a transaction holds back, None outside of one.
        reply_token: what stands behind `amq.rabbitmq.reply-to.` in the address of its replies, None without any.
    """

    __slots__ = (
        "_addresses",
        "_client",
        "_confirmed",
        "_number",
        "_output",
        "_rejected",
        "_vhost",
        "count",
        "held",
        "reply_token",
    )

    def __init__(self, number: int, client: Client, vhost: VHost) -> None:
        self._number = number
        self._client = client
        self._output = client.output
        self._vhost = vhost
        self.count: int | None = None
        self.held: list[Publication] | None = None
        self.reply_token: str | None = None
        self._confirmed: list[int] = []
        self._rejected: list[int] = []
        self._addresses: dict[bytes, tuple[str, str, bytes]] = {}

    def publish(self, payload: bytes, header: bytes, body: bytes) -> None:
        """Take a publication, whole.

        Args:
            payload: of the method's frame.
            header: of the content header's frame.

        Raises:
            ProtocolRefusal: it is refused.
            TopologyError: it is refused by the router.
        """
        exchange, key, address = self._addresses.get(payload[6:-1]) or self._address(payload)
        flags = payload[-1]
        if flags & _IMMEDIATE:
            raise ProtocolRefusal(540, "immediate=true", PUBLISH)
        if announced_size(header) > MAX_MESSAGE_BYTES:
            size = announced_size(header)
            raise ProtocolRefusal(406, f"message size {size} is larger than configured max size {MAX_MESSAGE_BYTES}")
        vhost = self._vhost
        found = properties.read(header)
        expiration = None
        if found.reply_to or found.expiration is not None:
            header, expiration = self._checked(exchange, header, found)
        headers = None if found.headers is None else vhost.headers_for(exchange, found.headers)
        names = vhost.router.route_key(exchange, key, headers)
        message = Message(exchange, key, address, header, body, found.priority, expiration)
        if headers is not None:
            carry_copies(message, headers)
        if found.user_id is not None:  # last, as RabbitMQ looks at it
            self._check_user(found.user_id)
        if headers is not None and vhost.holds_back(message, headers):
            names = ()
        else:
            vhost.note_in_histories(exchange, message, headers)
        if vhost.is_traced and exchange != firehose.EXCHANGE:
            # To the default exchange RabbitMQ names the queue of each key, whether there is one or not.
            told = names if exchange else tuple(dict.fromkeys(message.all_keys))
            vhost.trace(firehose.published(message, told, firehose.Party.of(self._client, self._number, vhost.name)))
        self._client.has_published = True
        number = 0
        if self.count is not None:
            self.count = number = self.count + 1
        if self.held is not None:
            held = tuple(map(vhost.queues.get, names))
            self.held.append((message, names, bool(flags & _MANDATORY), held))
            vhost.hold(message)
        else:
            self.send_on(message, names, number, is_mandatory=bool(flags & _MANDATORY))

    def drop_held(self) -> None:
        """Hold nothing back any more."""
        for message, *_ in self.held or ():
            self._vhost.release(message)
        self.held = None

    def _address(self, payload: bytes) -> tuple[str, str, bytes]:
        try:
            end = 7 + payload[6]
            stop = end + 1 + payload[end]
            exchange, key = payload[7:end].decode(), payload[end + 1 : stop].decode()
        except UnicodeDecodeError:
            raise ProtocolRefusal(501, "Malformed UTF-8 in shortstr") from None
        except IndexError:
            raise undecodable(payload) from None
        if stop + 1 != len(payload):
            raise undecodable(payload)
        self._client.rights.check("write", "exchange", exchange)  # once for an address, as RabbitMQ remembers it
        if len(self._addresses) >= MAX_ADDRESSES:
            self._addresses.clear()
        address = payload[6:stop]
        known = self._addresses[address] = (exchange, key, address)
        return known

    def _checked(self, exchange: str, header: bytes, found: properties.Found) -> tuple[bytes, int | None]:
        self._vhost.router.check_publish(exchange)
        if found.reply_to == REPLY_TO:
            header = self._with_reply_to(header)
        return header, None if found.expiration is None else check_expiration(found.expiration)

    def _check_user(self, user_id: str) -> None:
        user = self._client.agreed.user
        if user_id != user:
            raise ProtocolRefusal(406, f"user_id property set to '{user_id}' but authenticated user was '{user}'")

    def _with_reply_to(self, header: bytes) -> bytes:
        if self.reply_token is None:
            raise ProtocolRefusal(406, "fast reply consumer does not exist")
        return properties.rewrite(header, {properties.REPLY_TO: short_string(f"{REPLY_TO}.{self.reply_token}")})

    def send_on(self, message: Message, names: tuple[str, ...], number: int, *, is_mandatory: bool) -> bool:
        """Put a routed message into its queues, return it where it must be, and note its confirm.

        Args:
            number: of the publication on this channel, 0 where nothing is confirmed.

        Returns:
            Whether no queue refused it.
        """
        is_taken = self._vhost.deliver(message, names)
        if not names and not self._is_reply(message) and is_mandatory:
            self._return(message, 312, "NO_ROUTE")
        if number and not names:  # no queue is asked, so RabbitMQ confirms it before it looks at what comes next
            self._settle_one(_ACK, number, is_multiple=False)
        elif number:
            if not self._confirmed and not self._rejected:
                self._client.to_confirm.append(self.flush_confirms)
            (self._confirmed if is_taken else self._rejected).append(number)
        return is_taken

    def _is_reply(self, message: Message) -> bool:
        if message.exchange or not message.routing_key.startswith(REPLY_TO):
            return False
        token = message.routing_key[len(REPLY_TO) + 1 :]
        consumer = self._vhost.reply_consumers.get(token)
        if consumer is not None:
            consumer.deliver_reply(message)
        return self._vhost.is_own_reply(token)

    def _return(self, message: Message, code: int, text: str) -> None:
        method = _RETURN + code.to_bytes(2, "big") + short_string(text) + message.address
        head = pack_head(METHOD, self._number, len(method)) + method + END_BYTE
        self._output.write(head + content_frames(self._number, message.header, message.body, self._output.room))

    # confirms

    def flush_confirms(self) -> None:
        """Tell the publisher what has been taken and what has not.

        As RabbitMQ does (`coalesce_and_send`): confirms of one batch are one frame where they may be.
        """
        confirmed, rejected = self._confirmed, self._rejected
        if not confirmed and not rejected:
            return
        self._confirmed, self._rejected = [], []
        if len(confirmed) == 1:
            self._settle_one(_ACK, confirmed[0], is_multiple=False)
        elif confirmed:
            self._settle(_ACK, confirmed, rejected)
        if rejected:
            self._settle(_NACK, rejected, confirmed)

    def drop_confirms(self) -> None:
        """The channel is over: what it has taken last, nobody is told."""
        self._confirmed, self._rejected = [], []

    def _settle(self, method: bytes, numbers: list[int], others: list[int]) -> None:
        # Those below all of the other kind are one `multiple` frame, be it for one publication only.
        below = bisect_left(numbers, others[0]) if others else len(numbers)
        if below:
            self._settle_one(method, numbers[below - 1], is_multiple=True)
        for number in numbers[below:]:
            self._settle_one(method, number, is_multiple=False)

    def _settle_one(self, method: bytes, number: int, *, is_multiple: bool) -> None:
        bits = is_multiple | 2 if method is _NACK else is_multiple  # RabbitMQ's nacks say `requeue`, too
        head = pack_head(METHOD, self._number, 13)
        self._output.write(head + method + _SETTLED.pack(number, bits) + END_BYTE)


def carry_copies(message: Message, headers: dict[str, object]) -> None:
    """Note the routing keys in CC and BCC, and take BCC out of what consumers see."""
    copies, blind = _texts(headers.get("CC")), _texts(headers.get("BCC"))
    if "BCC" in headers:
        fields = properties.headers_of(message.header)
        kept = [(name, field.raw) for name, field in fields.items() if name != "BCC"]
        message.header = properties.with_headers(message.header, kept)
    if copies or blind:
        message.hidden = blind
        message.keys = (message.routing_key, *copies, *blind)


def _texts(value: object) -> tuple[str, ...]:
    # The router has refused what is no array, and passes over entries that are no text.
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
