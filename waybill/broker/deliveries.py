"""The consuming half of a channel: its consumers, deliveries out, acknowledgements and rejections in."""

from __future__ import annotations

from itertools import takewhile
from struct import Struct

from pamqp import commands

from waybill.broker import firehose
from waybill.broker.client import Client
from waybill.broker.frames import BODY, END_BYTE, HEADER, METHOD, content_frames, pack_head
from waybill.broker.message import Message, with_counts
from waybill.broker.methods import ACK, NACK, REJECT, id_of, undecodable
from waybill.broker.queue import Consumer, Queue
from waybill.broker.ready import Entry
from waybill.broker.tables import long_integer, short_string
from waybill.broker.vhost import VHost
from waybill.errors import ProtocolRefusal

Unacked = tuple[Entry, Queue, Consumer | None]
"""A delivery that has not been settled; without a consumer it was a `basic.get`."""

Settlement = tuple[str, dict[int, Unacked]]
"""What has become of deliveries: `ack`, `discard`, `reject`, `return` or `fail`, see `Deliveries.apply`."""

_OUTCOMES = {(NACK, True): "return", (NACK, False): "discard", (REJECT, True): "fail", (REJECT, False): "reject"}
_TAG = Struct(">QB")
_CANCEL = id_of(commands.Basic.Cancel)
_DELIVER = id_of(commands.Basic.Deliver)
_GET_OK = id_of(commands.Basic.GetOk)
_HEADS = Struct(">BHI4s")


class Deliveries:
    """What a channel's client consumes and has been sent.

    Args:
        number: the channel's.

    Attributes:
        output: what the client is to be sent.
        consumers: by tag, with their queues.
        reply_consumer: the tag of its direct reply-to consumer.
        unacked: by delivery tag, in the order of the tags.
        held: settlements that a transaction holds back, None outside of one.
    """

    __slots__ = (
        "_client",
        "_left",
        "_number",
        "_vhost",
        "consumers",
        "held",
        "next_tag",
        "output",
        "reply_consumer",
        "unacked",
    )

    def __init__(self, number: int, client: Client, vhost: VHost) -> None:
        self._number = number
        self._client = client
        self._vhost = vhost
        self.output = client.output
        self.consumers: dict[str, tuple[Queue, Consumer]] = {}
        self.reply_consumer: str | None = None
        self.next_tag = 1
        self.unacked: dict[int, Unacked] = {}
        self.held: list[Settlement] | None = None
        self._left: list[Queue] = []

    # out

    def deliver(self, queue: Queue, consumer: Consumer, entry: Entry) -> None:
        """Send a delivery to a consumer of this channel."""
        tag = self.next_tag
        self.next_tag = tag + 1
        if not consumer.no_ack:
            self.unacked[tag] = (entry, queue, consumer)
        message = entry.message
        if entry.acquired or entry.was_seen:
            header = counted(entry) if queue.is_quorum else message.header
            self._send(consumer.tag_bytes, tag, True, message, header)
        else:
            self._send(consumer.tag_bytes, tag, False, message, message.header)
        if self._vhost.is_traced:
            self._trace(queue, entry)

    def _trace(self, queue: Queue, entry: Entry) -> None:
        message, vhost, is_redelivered = entry.message, self._vhost, entry.is_redelivered
        if message.exchange == firehose.EXCHANGE:
            return
        header = counted(entry) if is_redelivered and queue.is_quorum else message.header
        party = firehose.Party.of(self._client, self._number, vhost.name)
        vhost.trace(firehose.delivered(message, header, queue.name, party, is_redelivered=is_redelivered))

    def _send(self, consumer_tag: bytes, tag: int, is_redelivered: bool, message: Message, header: bytes) -> None:
        address, body = message.address, message.body
        number, output = self._number, self.output
        size = len(body)
        start = (
            _HEADS.pack(METHOD, number, 13 + len(consumer_tag) + len(address), _DELIVER),
            consumer_tag,
            _TAG.pack(tag, is_redelivered),
            address,
            END_BYTE,
        )
        if 0 < size <= output.room:
            head = pack_head(HEADER, number, len(header))
            output.write(b"".join((*start, head, header, END_BYTE, pack_head(BODY, number, size), body, END_BYTE)))
        else:
            output.write(b"".join((*start, content_frames(number, header, body, output.room))))

    def deliver_reply(self, message: Message) -> None:
        """Send a direct reply to this channel's reply consumer."""
        tag = self.next_tag
        self.next_tag = tag + 1
        self._send(short_string(self.reply_consumer or ""), tag, False, message, message.header)

    def send_get(self, entry: Entry, queue: Queue, *, no_ack: bool) -> None:
        """Answer a `basic.get` with a message."""
        tag = self.next_tag
        self.next_tag = tag + 1
        if not no_ack:
            self.unacked[tag] = (entry, queue, None)
        message, number = entry.message, self._number
        header = counted(entry) if entry.is_redelivered and queue.is_quorum else message.header
        method = b"".join(
            (_GET_OK, _TAG.pack(tag, entry.is_redelivered), message.address, queue.ready.count.to_bytes(4, "big"))
        )
        head = pack_head(METHOD, number, len(method)) + method + END_BYTE
        self.output.write(head + content_frames(number, header, message.body, self.output.room))
        if self._vhost.is_traced:
            self._trace(queue, entry)
        queue.taken(entry, no_ack=no_ack)

    def wake(self) -> None:
        """The client reads again: its consumers may take deliveries."""
        for queue, consumer in tuple(self.consumers.values()):
            queue.wake(consumer)

    def cancelled(self, consumer: Consumer) -> None:
        """A consumer's queue is gone."""
        self.consumers.pop(consumer.tag, None)
        if self._client.agreed.is_told_of_cancels:
            method = _CANCEL + consumer.tag_bytes + b"\x01"
            self.output.write(pack_head(METHOD, self._number, len(method)) + method + END_BYTE)

    # in

    def settle(self, payload: bytes, index: int) -> None:
        """Take a `basic.ack`, `basic.nack` or `basic.reject`.

        Raises:
            ProtocolRefusal: 406 for a delivery tag that is not out.
        """
        if len(payload) != 13:
            raise undecodable(payload)
        tag, bits = _TAG.unpack_from(payload, 4)
        if index == ACK and not bits & 1 and self.held is None:
            unacked = self.unacked.pop(tag, None)
            if unacked is None:
                raise ProtocolRefusal(406, f"unknown delivery tag {tag}", index)
            unacked[1].ack(unacked[0], unacked[2])
            return
        outcome = "ack"
        if index != ACK:
            is_requeued = bits & 1 if index == REJECT else bits & 2
            outcome = _OUTCOMES[index, bool(is_requeued)]
        taken = self._collect(tag, index, is_multiple=index != REJECT and bool(bits & 1))
        if self.held is not None:
            self.held.append((outcome, taken))
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
        return {one: unacked.pop(one) for one in list(takewhile(tag.__ge__, unacked))}

    def apply(self, outcome: str, taken: dict[int, Unacked]) -> None:
        """Tell the queues what has become of deliveries.

        Args:
            outcome: `ack`; `discard` and `reject` end, `return` and `fail` requeue, the second of each is a failure.
        """
        if outcome == "ack":
            for entry, queue, consumer in taken.values():
                queue.ack(entry, consumer)
            return
        groups: dict[tuple[str, bool, str | int], list[Unacked]] = {}
        for tag, unacked in taken.items():
            consumer = unacked[2]
            key = (unacked[1].name, consumer is not None, tag if consumer is None else consumer.tag)
            groups.setdefault(key, []).append(unacked)
        for _, settled in sorted(groups.items()):  # each consumer's by itself: rabbit_channel.erl, foreach_per_queue
            self._settle(settled[0][1], settled, outcome)

    def requeue_all(self, taken: dict[int, Unacked]) -> None:
        """Tell the queues that the channel is over: to each, everything comes back at once."""
        by_queue: dict[Queue, list[Unacked]] = {}
        for unacked in taken.values():
            by_queue.setdefault(unacked[1], []).append(unacked)
        for queue, unsettled in by_queue.items():
            if queue.is_quorum:  # which takes back consumer by consumer, and answers to `basic.get` last
                unsettled.sort(key=lambda one: (one[2] is None, one[2].number if one[2] is not None else 0))
            self._settle(queue, unsettled, "fail")
        for queue in self._left:  # whose next active consumer has waited for what comes back
            if not queue.is_deleted:
                queue.dispatch()
        self._left = []

    def _settle(self, queue: Queue, settled: list[Unacked], outcome: str) -> None:
        entries = [entry for entry, _, _ in settled]
        with self._vhost.deferred_dead_letters():  # for consumers to be free when they come
            if outcome in ("discard", "reject"):
                queue.discard(entries, is_failure=outcome == "reject")
            else:
                queue.requeue(entries, is_failure=outcome == "fail")
            for _, _, consumer in settled:
                queue.free(consumer)
            queue.dispatch()
            queue.trim()

    def reassign(self, former: Consumer, consumer: Consumer) -> int:
        """What a former consumer has out is another's now; returns how many deliveries."""
        found = {tag: (entry, queue, consumer) for tag, (entry, queue, one) in self.unacked.items() if one is former}
        self.unacked |= found
        return len(found)

    # the end

    def expect_no_acks(self) -> None:
        """The connection is refused: quorum queues take back what they still deliver here, `no_ack` or not."""
        for queue, consumer in self.consumers.values():
            if queue.is_quorum:
                consumer.no_ack = False

    def leave(self) -> list[Queue]:
        """The consumers leave; returns the queues that are over with them."""
        self._left = [queue for queue, _ in self.consumers.values() if queue.is_single_active]
        left, self.consumers = list(self.consumers.values()), {}
        for _, consumer in left:
            consumer.is_gone = True
        return [queue for queue, consumer in left if queue.unsubscribe(consumer)]

    def take_all(self) -> dict[int, Unacked]:
        """Take everything that has not been settled."""
        unacked, self.unacked = self.unacked, {}
        return unacked

    def restore(self, taken: dict[int, Unacked]) -> None:
        """Deliveries are out again: their settlement was rolled back."""
        self.unacked = dict(sorted({**self.unacked, **taken}.items()))


def counted(entry: Entry) -> bytes:
    """The header of a message that a quorum queue delivers again."""
    counts = [("x-acquired-count", long_integer(entry.acquired or entry.failures))]
    if entry.failures:
        counts.append(("x-delivery-count", long_integer(entry.failures)))
    return with_counts(entry.message.header, tuple(counts))
