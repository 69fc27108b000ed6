"""One channel: content is put together, deliveries are counted, publications confirmed.

publish, deliver and the settlements are written out by hand for speed. The other methods are in operations.py.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import TYPE_CHECKING

from waybill.broker import properties
from waybill.broker.consumers import Consumer
from waybill.broker.frames import (
    BODY,
    END_BYTE,
    HEADER,
    HEARTBEAT,
    METHOD,
    bad_frame,
    content_frames,
    erlang_binary,
    pack_head,
    unexpected_frame,
)
from waybill.broker.limits import MAX_BODY_BYTES, MAX_MESSAGE_BYTES
from waybill.broker.message import Message, with_counts
from waybill.broker.methods import ACK, NACK, PUBLISH, REJECT, index_of
from waybill.broker.ready import Entry
from waybill.broker.tables import long_integer, short_string
from waybill.broker.vhost import REPLY_TO
from waybill.errors import ProtocolRefusal
from waybill.publishing import check_expiration

if TYPE_CHECKING:
    from waybill.broker.connection import Connection
    from waybill.broker.queue import Queue
    from waybill.broker.vhost import VHost

Unacked = tuple[Entry, "Queue", Consumer | None]
"""A delivery that has not been settled; without a consumer it was a `basic.get`."""

_ACK = b"\x00\x3c\x00\x50"
_NACK = b"\x00\x3c\x00\x78"
_TAG = Struct(">QB")
_SETTLED = Struct(">QB")
_HEADER_START = Struct(">HHQ")
_CONTENT_METHODS = frozenset({PUBLISH, 0x003C0032, 0x003C003C, 0x003C0047})

MAX_ADDRESSES = 1024
"""Pairs of exchange and routing key that a channel keeps decoded: most publish to a few, again and again."""


class Channel:
    """One open channel.

    Args:
        number: as in its frames.
    """

    __slots__ = (
        "_addresses",
        "_body",
        "_header",
        "_publish",
        "_remaining",
        "confirmed",
        "connection",
        "consumers",
        "is_closing",
        "last_queue",
        "next_tag",
        "number",
        "prefetch",
        "publish_count",
        "rejected",
        "reply_consumer",
        "reply_token",
        "transaction",
        "unacked",
        "vhost",
    )

    def __init__(self, number: int, connection: Connection, vhost: VHost) -> None:
        self.number = number
        self.connection = connection
        self.vhost = vhost
        self.is_closing = False
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Unacked] = {}
        self.next_tag = 1
        self.prefetch = 0
        self.last_queue = ""
        self.publish_count: int | None = None
        self.confirmed: list[int] = []
        self.rejected: list[int] = []
        self.transaction: Transaction | None = None
        self.reply_consumer: str | None = None
        self.reply_token: str | None = None
        self._publish: bytes | None = None
        self._header: bytes | None = None
        self._body: list[bytes] = []
        self._remaining = 0
        self._addresses: dict[bytes, tuple[str, str, bytes]] = {}

    # content

    def take(self, kind: int, payload: bytes) -> bytes | None:
        """Take a frame; a method that is whole without content, or wrongly has it, is handed back.

        Raises:
            ProtocolRefusal: frames in an order that makes no content, or a publication that is refused.
        """
        if self._header is not None:
            return self._take_body(kind, payload)
        if self._publish is not None:
            return self._take_header(kind, payload)
        if kind != METHOD:
            check_shape(kind, payload)
            raise ProtocolRefusal(505, "expected method frame, got non method frame instead")
        if len(payload) < 4:
            raise bad_frame(kind, payload)
        if index_of(payload) in _CONTENT_METHODS:
            self._publish = payload
            return None
        return payload

    def _take_header(self, kind: int, payload: bytes) -> bytes | None:
        method = index_of(self._publish or b"")
        check_shape(kind, payload)
        class_id, weight, size = _HEADER_START.unpack_from(payload) if kind == HEADER else (0, 1, 0)
        if weight:
            raise ProtocolRefusal(
                505, "expected content header for class 60, got non content header frame instead", method
            )
        if class_id != 60:
            raise ProtocolRefusal(
                505, f"expected content header for class 60, got one for class {class_id} instead", method
            )
        if size > MAX_BODY_BYTES:
            raise ProtocolRefusal(
                501, f"content body size {size} exceeds maximum allowed size {MAX_BODY_BYTES}", method
            )
        if not size:
            return self._whole(payload, b"")
        self._header = payload
        self._remaining = size
        return None

    def _take_body(self, kind: int, payload: bytes) -> bytes | None:
        if kind != BODY:
            check_shape(kind, payload)
            method = index_of(self._publish or b"")
            raise ProtocolRefusal(505, "expected content body, got non content body frame instead", method)
        self._remaining -= len(payload)
        if not self._remaining:
            body = payload if not self._body else b"".join((*self._body, payload))
            return self._whole(self._header or b"", body)
        if self._remaining < 0:
            method = index_of(self._publish or b"")
            raise ProtocolRefusal(501, "content body frame exceeds remaining content size", method)
        if _announced(self._header or b"") <= MAX_MESSAGE_BYTES:  # a message to be refused is not worth keeping
            self._body.append(payload)
        return None

    def _whole(self, header: bytes, body: bytes) -> bytes | None:
        payload = self._publish or b""
        self._publish = self._header = None
        if self._body:
            self._body = []
        if self.is_closing:
            return None
        if index_of(payload) != PUBLISH:
            return payload
        self.publish(payload, header, body)
        return None

    # publish

    def publish(self, payload: bytes, header: bytes, body: bytes) -> None:
        """Take a publication, whole.

        Raises:
            ProtocolRefusal: it is refused.
            TopologyError: it is refused by the router.
        """
        exchange, key, address = self._addresses.get(payload[6:-1]) or self._address(payload)
        flags = payload[-1]
        if flags & 2:
            raise ProtocolRefusal(540, "immediate=true", PUBLISH)
        size = _announced(header)
        if size > MAX_MESSAGE_BYTES:
            text = f"message size {size} is larger than configured max size {MAX_MESSAGE_BYTES}"
            raise ProtocolRefusal(406, text)
        found = properties.read(header)
        vhost = self.vhost
        expiration = None
        if found is not properties.NOTHING:
            header, expiration = self._checked(exchange, header, found)
        headers = vhost.headers_for(exchange, found.headers)
        names = vhost.router.route_key(exchange, key, headers)
        message = Message(exchange, key, address, header, body, found.priority, expiration, found.is_persistent)
        if headers is not None:
            carry_copies(message, headers)
        self.connection.has_published = True
        number = 0
        if self.publish_count is not None:
            self.publish_count = number = self.publish_count + 1
        if self.transaction is not None:
            self.transaction.publications.append((message, names, bool(flags & 1)))
        else:
            self.send_on(message, names, number, is_mandatory=bool(flags & 1))

    def _address(self, payload: bytes) -> tuple[str, str, bytes]:
        try:
            end = 7 + payload[6]
            stop = end + 1 + payload[end]
            exchange, key = payload[7:end].decode(), payload[end + 1 : stop].decode()
        except UnicodeDecodeError:
            raise ProtocolRefusal(501, "Malformed UTF-8 in shortstr") from None
        except IndexError:
            stop = -1
        if stop + 1 != len(payload):
            raise undecodable(payload)
        if len(self._addresses) >= MAX_ADDRESSES:
            self._addresses.clear()
        address = payload[6:stop]
        known = self._addresses[address] = (exchange, key, address)
        return known

    def _checked(self, exchange: str, header: bytes, found: properties.Found) -> tuple[bytes, int | None]:
        """The checks that a message's properties call for, in RabbitMQ's order."""
        self.vhost.router.check_publish(exchange)
        if found.reply_to is not None:
            header = self._with_reply_to(header, found.reply_to)
        expiration = None
        if found.expiration:
            expiration = check_expiration(found.expiration)
        user = self.connection.user
        if found.user_id is not None and found.user_id != user:
            text = f"user_id property set to '{found.user_id}' but authenticated user was '{user}'"
            raise ProtocolRefusal(406, text)
        return header, expiration

    def _with_reply_to(self, header: bytes, reply_to: str) -> bytes:
        if reply_to != REPLY_TO:
            return header
        if self.reply_token is None:
            raise ProtocolRefusal(406, "fast reply consumer does not exist")
        name = f"{REPLY_TO}.{self.reply_token}"
        return properties.rewrite(header, {properties.REPLY_TO: short_string(name)})

    def send_on(self, message: Message, names: tuple[str, ...], number: int, *, is_mandatory: bool) -> bool:
        """Put a routed message into its queues, return it where it must be, and note its confirm.

        Args:
            number: of the publication on this channel, 0 where nothing is confirmed.

        Returns:
            Whether no queue refused it.
        """
        is_taken = self.vhost.deliver(message, names) if names or self.vhost.histories else True
        if not names and not self._is_reply(message) and is_mandatory:
            self.give_back(message, 312, "NO_ROUTE")
        if number:
            connection = self.connection
            if not self.confirmed and not self.rejected:
                connection.to_confirm.append(self)
            (self.confirmed if is_taken else self.rejected).append(number)
        return is_taken

    def _is_reply(self, message: Message) -> bool:
        if message.exchange or not message.routing_key.startswith(REPLY_TO):
            return False
        token = message.routing_key[len(REPLY_TO) + 1 :]
        channel = self.vhost.reply_consumers.get(token)
        if channel is not None:
            channel.deliver_reply(message)
        return self.vhost.is_own_reply(token)

    def give_back(self, message: Message, code: int, text: str) -> None:
        """Return a message to its publisher."""
        method = b"\x00\x3c\x00\x32" + code.to_bytes(2, "big") + short_string(text) + message.address
        self._write_content(method, message.header, message.body)

    def flush_confirms(self) -> None:
        """Tell the publisher what has been taken and what has not.

        As RabbitMQ does (`coalesce_and_send`): confirms of one batch are one frame where they may be.
        """
        confirmed, rejected = self.confirmed, self.rejected
        self.confirmed, self.rejected = [], []
        if self.is_closing:
            return
        if len(confirmed) == 1:
            self._settle_publish(_ACK, confirmed[0], is_multiple=False)
        elif confirmed:
            self._settle_publishes(_ACK, confirmed, rejected)
        if rejected:
            self._settle_publishes(_NACK, rejected, confirmed)

    def _settle_publishes(self, method: bytes, numbers: list[int], others: list[int]) -> None:
        # Those below all of the other kind are one `multiple` frame, be it for one publication only.
        below = bisect_left(numbers, others[0]) if others else len(numbers)
        if below:
            self._settle_publish(method, numbers[below - 1], is_multiple=True)
        for number in numbers[below:]:
            self._settle_publish(method, number, is_multiple=False)

    def _settle_publish(self, method: bytes, number: int, *, is_multiple: bool) -> None:
        bits = is_multiple | 2 if method is _NACK else is_multiple  # RabbitMQ's nacks say `requeue`, too
        self.connection.write(pack_head(METHOD, self.number, 13) + method + _SETTLED.pack(number, bits) + END_BYTE)

    # deliver

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Send a delivery to a consumer of this channel."""
        tag = self.next_tag
        self.next_tag = tag + 1
        if not consumer.no_ack:
            self.unacked[tag] = (entry, consumer.queue, consumer)
        message = entry.message
        header = message.header
        if entry.acquired and consumer.queue.is_quorum:
            header = counted(entry)
        self._send_delivery(consumer.tag_bytes, tag, entry.is_redelivered, message, header)

    def _send_delivery(
        self, consumer_tag: bytes, tag: int, is_redelivered: bool, message: Message, header: bytes
    ) -> None:
        address, body, number = message.address, message.body, self.number
        size = len(body)
        connection = self.connection
        room = connection.room
        head = pack_head(METHOD, number, 13 + len(consumer_tag) + len(address))
        if 0 < size <= room:
            data = b"".join(
                (
                    head,
                    b"\x00\x3c\x00\x3c",
                    consumer_tag,
                    _TAG.pack(tag, is_redelivered),
                    address,
                    END_BYTE,
                    pack_head(HEADER, number, len(header)),
                    header,
                    END_BYTE,
                    pack_head(BODY, number, size),
                    body,
                    END_BYTE,
                )
            )
        else:
            start = (
                head,
                b"\x00\x3c\x00\x3c",
                consumer_tag,
                _TAG.pack(tag, is_redelivered),
                address,
                END_BYTE,
            )
            data = b"".join(start) + content_frames(number, header, body, room)
        connection.write(data)

    def deliver_reply(self, message: Message) -> None:
        """Send a direct reply to this channel's reply consumer."""
        tag = self.next_tag
        self.next_tag = tag + 1
        self._send_delivery(short_string(self.reply_consumer or ""), tag, False, message, message.header)

    def send_get(self, entry: Entry, queue: Queue, *, no_ack: bool) -> None:
        """Answer a `basic.get` with a message."""
        tag = self.next_tag
        self.next_tag = tag + 1
        if not no_ack:
            self.unacked[tag] = (entry, queue, None)
        message = entry.message
        header = counted(entry) if entry.acquired and queue.is_quorum else message.header
        method = b"\x00\x3c\x00\x47" + _TAG.pack(tag, entry.is_redelivered) + message.address
        self._write_content(method + queue.ready.count.to_bytes(4, "big"), header, message.body)
        queue.taken(entry, no_ack=no_ack)

    def _write_content(self, method: bytes, header: bytes, body: bytes) -> None:
        frame = pack_head(METHOD, self.number, len(method)) + method + END_BYTE
        self.connection.write(frame + content_frames(self.number, header, body, self.connection.room))

    # settle

    def settle(self, payload: bytes, index: int) -> None:
        """Take a `basic.ack`, `basic.nack` or `basic.reject`.

        Raises:
            ProtocolRefusal: 406 for a delivery tag that is not out.
        """
        if len(payload) != 13:
            raise undecodable(payload)
        tag, bits = _SETTLED.unpack_from(payload, 4)
        is_multiple = index != REJECT and bool(bits & 1)
        if index == ACK:
            if not is_multiple and self.transaction is None:
                unacked = self.unacked.pop(tag, None)
                if unacked is None:
                    raise ProtocolRefusal(406, f"unknown delivery tag {tag}", index)
                unacked[1].ack(unacked[0], unacked[2])
                return
            outcome = "ack"
        else:
            is_requeued = bits & 1 if index == REJECT else bits & 2
            outcome = ("return" if index == NACK else "fail") if is_requeued else "discard"
        taken = self._collect(tag, index, is_multiple=is_multiple)
        if self.transaction is not None:
            self.transaction.settlements.append((outcome, taken))
        else:
            self.apply(outcome, taken)

    def _collect(self, tag: int, index: int, *, is_multiple: bool) -> dict[int, Unacked]:
        unacked = self.unacked
        if is_multiple and not tag:
            self.unacked = {}
            return unacked
        if tag not in unacked:
            raise ProtocolRefusal(406, f"unknown delivery tag {tag}", index)
        if not is_multiple:
            return {tag: unacked.pop(tag)}
        taken = {}
        for one in list(unacked):
            if one > tag:
                break
            taken[one] = unacked.pop(one)
        return taken

    def apply(self, outcome: str, taken: dict[int, Unacked]) -> None:
        """Tell the queues what has become of deliveries.

        Args:
            outcome: `ack`; `discard`; `return` and `fail` put back, the second counts against a delivery limit.
        """
        if outcome == "ack":
            for entry, queue, consumer in taken.values():
                queue.ack(entry, consumer)
            return
        by_queue: dict[Queue, list[Unacked]] = {}
        for unacked in taken.values():
            by_queue.setdefault(unacked[1], []).append(unacked)
        for queue, settled in by_queue.items():
            entries = [entry for entry, _, _ in settled]
            if outcome == "discard":
                queue.discard(entries)
            else:
                queue.requeue(entries, is_failure=outcome == "fail")
            for _, _, consumer in settled:
                if consumer is not None:
                    queue.free(consumer)
            queue.dispatch()

    # the end

    def cancelled(self, consumer: Consumer) -> None:
        """A consumer's queue is gone."""
        self.consumers.pop(consumer.tag, None)
        if self.connection.is_told_of_cancels and not self.is_closing:
            method = b"\x00\x3c\x00\x1e" + consumer.tag_bytes + b"\x01"
            self.connection.write(pack_head(METHOD, self.number, len(method)) + method + END_BYTE)

    def end(self) -> None:
        """The channel is over: its consumers leave, what was not settled goes back."""
        self.is_closing = True
        self.transaction = None
        consumers, self.consumers = self.consumers, {}
        for consumer in consumers.values():
            consumer.is_gone = True
        unacked, self.unacked = self.unacked, {}
        leaving = [(one.queue, one.queue.unsubscribe(one)) for one in consumers.values()]
        self.apply("fail", unacked)
        for queue, is_over in leaving:
            if is_over and not queue.is_deleted:
                self.vhost.delete_queue(queue)
        self.drop_reply_consumer()

    def drop_reply_consumer(self) -> None:
        """The direct reply-to consumer leaves."""
        if self.reply_token is not None:
            del self.vhost.reply_consumers[self.reply_token]
            self.reply_token = self.reply_consumer = None


class Transaction:
    """What a channel in tx mode holds back until `tx.commit`."""

    def __init__(self) -> None:
        self.publications: list[tuple[Message, tuple[str, ...], bool]] = []
        self.settlements: list[tuple[str, dict[int, Unacked]]] = []


def check_shape(kind: int, payload: bytes) -> None:
    """Refuse a frame that is none of AMQP's (501), or a heartbeat on a channel (505)."""
    if kind == METHOD and len(payload) >= 4:
        return
    if kind == HEADER and len(payload) >= 12:
        return
    if kind == BODY:
        return
    if kind == HEARTBEAT and not payload:
        raise unexpected_frame(kind, payload)
    raise bad_frame(kind, payload)


def _announced(header: bytes) -> int:
    return int.from_bytes(header[4:12], "big")


def undecodable(payload: bytes) -> ProtocolRefusal:
    """501 for a method whose arguments do not fit its layout."""
    return ProtocolRefusal(501, f"cannot decode {erlang_binary(payload[4:])}", index_of(payload))


def counted(entry: Entry) -> bytes:
    """The header of a message that a quorum queue delivers again."""
    counts = [("x-acquired-count", long_integer(entry.acquired))]
    if entry.failures:
        counts.append(("x-delivery-count", long_integer(entry.failures)))
    return with_counts(entry.message.header, tuple(counts))


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
