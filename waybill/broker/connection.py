"""One connection's state: bytes in, bytes out, no I/O.

    awaiting header → starting → tuning → opening → running → closing → closed

`receive` takes what the socket gave; what is to be written stands in `out` afterwards, of this connection and of
every other that a delivery went to. `is_finished` says that the socket is to be closed when `out` is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pamqp import base, commands

from waybill.broker import handshake, methods
from waybill.broker.channel import Channel
from waybill.broker.content import BASIC, announced_size
from waybill.broker.frames import (
    BODY,
    HEADER,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    OVERHEAD,
    Frame,
    FrameReader,
    bad_frame,
    unexpected_frame,
)
from waybill.broker.handshake import State
from waybill.broker.methods import answer
from waybill.broker.opening import LOGIN_REFUSED, STEPS
from waybill.broker.operations import OPERATIONS
from waybill.broker.publisher import Publisher
from waybill.broker.vhost import VHost
from waybill.errors import ProtocolRefusal, TopologyError

if TYPE_CHECKING:
    from waybill.broker.node import Node
    from waybill.broker.queue import Queue


_ACK = methods.ACK.to_bytes(4, "big")
_PUBLISH = methods.PUBLISH.to_bytes(4, "big")
_UNTRUSTED = frozenset({State.STARTING, State.TUNING})


class Connection:
    """One client's connection.

    Args:
        node: the broker.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.state = State.AWAITING_HEADER
        self.out: list[bytes] = []
        self.unsent = 0
        """Bytes written and not yet with the operating system; the server subtracts."""
        self.is_finished = False
        self.is_blocked = False
        self.is_backed_up = False
        self.has_published = False
        self.user = ""
        self.vhost: VHost | None = None
        self.channels: dict[int, Channel] = {}
        self.owned: set[Queue] = set()
        self.to_confirm: list[Publisher] = []
        self.room = node.limits.frame_max - OVERHEAD
        self.channel_max = node.limits.channel_max
        self.is_told_of_cancels = False
        self.is_told_of_blocks = False
        self._heartbeat = 0
        self._last_received = self._last_sent = node.now
        self._reader = FrameReader()
        self._header = b""
        node.connections.add(self)
        node.wake_at(self, node.now + node.limits.handshake, self._on_handshake_timeout)

    # bytes in

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        self._last_received = self.node.now
        if self.state is State.AWAITING_HEADER:
            data = self._take_header(data)
            if not data:
                return
        frames = self._reader.feed(data)
        if self.state is State.RUNNING:
            self._run(frames)
        else:
            self._step(frames)
        if self._reader.failure is not None and not self.is_finished:
            self._refuse(self._reader.failure)
        if self.to_confirm:
            self._flush_confirms()
        if self.node.is_alarmed and self.has_published and self.state is State.RUNNING:
            self._block()

    def _take_header(self, data: bytes) -> bytes:
        self._header += data
        if len(self._header) < 8:
            return b""
        header, rest = self._header[:8], self._header[8:]
        if header not in (handshake.PROTOCOL, handshake.PROTOCOL_0_9):
            self.write(handshake.refused_version(header))
            self.finish()
            return b""
        self.state = State.STARTING
        self.write(handshake.start_frame())
        return rest

    def _run(self, frames: list[Frame]) -> None:
        channels, place, count = self.channels, 0, len(frames)
        while place < count:
            kind, number, payload = frames[place]
            channel = channels.get(number)
            taken = 1
            try:
                if channel is None or kind != METHOD or channel.content.method is not None or channel.is_closing:
                    self._take_frame(kind, number, payload)
                elif payload[:4] == _ACK:
                    channel.deliveries.settle(payload, methods.ACK)
                elif payload[:4] == _PUBLISH and _is_publication(frames, place):
                    taken = 3
                    channel.publisher.publish(payload, frames[place + 1][2], frames[place + 2][2])
                else:
                    self._take_frame(kind, number, payload)
            except ProtocolRefusal as refusal:
                self._refuse(refusal, number, payload)
            except TopologyError as error:
                index = methods.index_of(payload) if kind == METHOD else methods.PUBLISH
                self._refuse(ProtocolRefusal(error.reply_code, error.text, index), number, payload)
            place += taken
            if self.state is not State.RUNNING:
                self._step(frames[place:])
                return

    def _take_frame(self, kind: int, number: int, payload: bytes) -> None:
        if not number:
            self._on_channel_zero(kind, payload)
            return
        channel = self.channels.get(number)
        if channel is None:
            self._without_channel(kind, number, payload)
            return
        taken = channel.content.take(kind, payload)
        if isinstance(taken, bytes):
            self._operate(channel, taken)
        elif taken is not None and not channel.is_closing:
            if methods.index_of(taken[0]) != methods.PUBLISH:
                raise ProtocolRefusal(503, "unimplemented method", methods.index_of(taken[0]))
            channel.publisher.publish(*taken)

    def _operate(self, channel: Channel, payload: bytes) -> None:
        index = methods.index_of(payload)
        if channel.is_closing:
            self._on_closing_channel(channel, index)
            return
        if index in (methods.ACK, methods.NACK, methods.REJECT):
            channel.deliveries.settle(payload, index)
            return
        if not methods.is_known(index):
            raise ProtocolRefusal(503, "unimplemented method", index)
        operation = OPERATIONS.get(index)
        method = methods.decode(payload)
        channel.publisher.flush_confirms()
        try:
            if operation is not None:
                reply = operation(channel, method)
                if reply is not None:
                    self.write_method(reply, channel.number)
            else:
                self._on_channel_method(channel, index)
        except ProtocolRefusal as refusal:
            refusal.method = refusal.method or index
            raise

    # channels

    def _without_channel(self, kind: int, number: int, payload: bytes) -> None:
        """A frame for a channel that is not open: only one may come."""
        channel = Channel(number, self, self._vhost())
        taken = channel.content.take(kind, payload)
        if len(self.channels) >= self.channel_max:
            raise ProtocolRefusal(
                530,
                f"number of channels opened ({len(self.channels)}) has reached the negotiated channel_max "
                f"({self.channel_max})",
            )
        index = methods.index_of(payload)
        if isinstance(taken, bytes) and methods.is_known(index):
            methods.decode(payload)
        if index != methods.CHANNEL_OPEN:
            raise ProtocolRefusal(504, "expected 'channel.open'", index)
        self.channels[number] = channel
        self.write_method(answer(commands.Channel.OpenOk), number)

    def _on_channel_method(self, channel: Channel, index: int) -> None:
        if index == methods.CHANNEL_CLOSE:
            channel.end()
            del self.channels[channel.number]
            self.write_method(answer(commands.Channel.CloseOk), channel.number)
        elif index == methods.ACCESS_REQUEST:
            self.write_frame(METHOD, channel.number, methods.ACCESS_REQUEST_OK)
        elif index == methods.CHANNEL_OPEN:
            raise ProtocolRefusal(504, "second 'channel.open' seen", index)
        else:
            raise ProtocolRefusal(503, "unimplemented method", index)

    def _on_closing_channel(self, channel: Channel, index: int) -> None:
        if index == methods.CHANNEL_CLOSE:
            self.write_method(answer(commands.Channel.CloseOk), channel.number)
        elif index == methods.CHANNEL_CLOSE_OK:
            del self.channels[channel.number]

    def _flush_confirms(self) -> None:
        publishers, self.to_confirm = self.to_confirm, []
        for publisher in publishers:
            publisher.flush_confirms()

    # channel 0

    def _on_channel_zero(self, kind: int, payload: bytes) -> None:
        if kind == HEARTBEAT and not payload:
            return
        if kind == BODY or (kind == HEADER and len(payload) >= 12):
            raise unexpected_frame(kind, payload)
        if kind != METHOD or len(payload) < 4:
            raise bad_frame(kind, payload)
        index = methods.index_of(payload)
        if index == commands.Connection.Close.index:
            methods.decode(payload)
            self._end()
            self.write_method(answer(commands.Connection.CloseOk), 0)
            self.state = State.CLOSED
            self.finish()
        elif index == commands.Connection.UpdateSecret.index:
            methods.decode(payload)
            self.write_method(answer(commands.Connection.UpdateSecretOk), 0)
        elif methods.is_known(index):
            raise self._out_of_place(index)
        else:
            raise ProtocolRefusal(503, "unimplemented method", index)

    def _out_of_place(self, index: int) -> ProtocolRefusal:
        return ProtocolRefusal(504, f"unexpected method in connection state {self.state.value}", index)

    # the handshake

    def _step(self, frames: list[Frame]) -> None:
        for position, frame in enumerate(frames):
            self._handshake_frame(*frame)
            if self.state is State.RUNNING:
                self._run(frames[position + 1 :])
                return

    def _handshake_frame(self, kind: int, number: int, payload: bytes) -> None:
        if self.state in (State.CLOSING, State.CLOSED):
            if not number and kind == METHOD and payload[:4] == b"\x00\x0a\x00\x33":
                self.state = State.CLOSED
                self.finish()
            return
        if kind == HEARTBEAT and not number and not payload:
            return
        try:
            if number or kind != METHOD or len(payload) < 4:
                raise unexpected_frame(kind, payload)
            index = methods.index_of(payload)
            step = STEPS.get((self.state, index))
            if step is None:
                raise self._out_of_place(index)
            step(self, methods.decode(payload))
        except ProtocolRefusal as refusal:
            if self.state in _UNTRUSTED and not refusal.text.startswith(LOGIN_REFUSED):
                self.fall_silent()
            else:
                self._refuse(refusal)

    def agree(self, frame_max: int, channel_max: int, heartbeat: int) -> None:
        """Take what `connection.tune-ok` has settled: bytes, channels and seconds."""
        self.room = frame_max - OVERHEAD
        self._reader.limit = frame_max
        self.channel_max = channel_max
        self._heartbeat = heartbeat

    def start_running(self, vhost: VHost) -> None:
        """The handshake is over; from here on heartbeats are due instead."""
        self.vhost = vhost
        self.state = State.RUNNING
        self.node.forget(self)
        if self._heartbeat:
            self.node.wake_at(self, self.node.now + self._heartbeat / 2, self._on_heartbeat)

    def _vhost(self) -> VHost:
        assert self.vhost is not None, "a channel is opened on a running connection"
        return self.vhost

    # refusing and ending

    def _refuse(self, refusal: ProtocolRefusal, number: int = 0, payload: bytes = b"") -> None:
        """Answer with a close of the channel or of the connection."""
        class_id, method_id = refusal.method >> 16, refusal.method & 0xFFFF
        if number and not refusal.closes_connection:
            if not refusal.method and len(payload) >= 4:
                class_id, method_id = 60, 40
            channel = self.channels[number]
            channel.end()
            self._write_close(commands.Channel.Close, number, refusal, class_id, method_id)
            return
        if self.state in (State.CLOSING, State.CLOSED):
            return
        self._end(self.channels.get(number))
        self.state = State.CLOSING
        self._write_close(commands.Connection.Close, 0, refusal, class_id, method_id)
        self.node.forget(self)
        self.node.wake_at(self, self.node.now + self.node.limits.closing, self.finish)

    def _write_close(
        self, kind: type[base.Frame], number: int, refusal: ProtocolRefusal, class_id: int, method_id: int
    ) -> None:
        close = answer(
            kind,
            reply_code=refusal.reply_code,
            reply_text=refusal.reply_text,
            class_id=class_id,
            method_id=method_id,
        )
        self.write_method(close, number)

    def fall_silent(self) -> None:
        """Close without a word and not at once: what came is no client, or one that guesses."""
        self.state = State.CLOSING
        self.node.forget(self)
        self.node.wake_at(self, self.node.now + self.node.limits.silent_close, self.finish)

    def _end(self, guilty: Channel | None = None) -> None:
        """Leave everything that was open: channels first, then the exclusive queues.

        As on RabbitMQ a guilty channel ends first, and the connection's other consumers are offered what it had. In
        which order those end is chance there; here all of them leave before anything of theirs goes back.
        """
        if guilty is not None and not guilty.is_closing:
            for channel in self.channels.values():
                channel.expect_no_acks()
            guilty.end()
        left = [(channel, channel.leave()) for channel in self.channels.values() if not channel.is_closing]
        for channel, over in left:
            channel.give_back(over)
        self.channels.clear()
        for queue in tuple(self.owned):
            queue_home = self._vhost()
            queue_home.delete_queue(queue)

    def lost(self) -> None:
        """The socket is gone."""
        self.state = State.CLOSED
        self._end()
        self.node.forget(self)
        self.node.connections.discard(self)

    def fail(self) -> None:
        """The broker itself has failed at what this client sent: only this client is to notice."""
        self._refuse(ProtocolRefusal(541))

    def force(self, text: str) -> None:
        """Close from this side with 320, because of what happens to the broker."""
        if self.state is State.RUNNING:
            self._refuse(ProtocolRefusal(320, text))
        else:
            self.finish()

    def finish(self) -> None:
        """Nothing more will be written: close the socket after what stands in `out`."""
        self.is_finished = True
        self.node.mark_dirty(self)

    # blocked publishers and slow readers

    def _block(self) -> None:
        if not self.is_blocked:
            self.is_blocked = True
            if self.is_told_of_blocks:
                self.write_method(answer(commands.Connection.Blocked, reason="low on memory"), 0)
            self.node.mark_dirty(self)

    def unblock(self) -> None:
        """The alarm is over."""
        self.is_blocked = False
        if self.is_told_of_blocks:
            self.write_method(answer(commands.Connection.Unblocked), 0)
        self.node.mark_dirty(self)

    def sent(self, waiting: int) -> None:
        """So many bytes are still waiting for the client to read."""
        self.unsent = waiting
        if self.is_backed_up and waiting <= self.node.limits.write_buffer // 2:
            self.is_backed_up = False
            for channel in tuple(self.channels.values()):
                for consumer in tuple(channel.consumers.values()):
                    consumer.queue.wake(consumer)

    # bytes out

    def write(self, data: bytes) -> None:
        """Have bytes written."""
        if not self.out:
            self.node.mark_dirty(self)
        self.out.append(data)
        self.unsent += len(data)
        if self.unsent > self.node.limits.write_buffer:
            self.is_backed_up = True

    def write_method(self, method: base.Frame, number: int) -> None:
        """Have a method written."""
        self.write(methods.encode(method, number))

    def write_frame(self, kind: int, number: int, payload: bytes) -> None:
        """Have a frame written."""
        self.write(methods.frame(kind, number, payload))

    def take_out(self) -> bytes:
        """What is to be written, in one piece."""
        out, self.out = self.out, []
        if out:
            self._last_sent = self.node.now
        return out[0] if len(out) == 1 else b"".join(out)

    # time

    def _on_handshake_timeout(self) -> None:
        if self.state is not State.RUNNING:
            self.finish()

    def _on_heartbeat(self) -> None:
        now, interval = self.node.now, self._heartbeat
        if now - self._last_received > 2 * interval and not self.is_blocked:
            self.finish()
            return
        if now - self._last_sent >= interval / 2:
            self.write(HEARTBEAT_FRAME)
        self.node.wake_at(self, now + interval / 2, self._on_heartbeat)


def _is_publication(frames: list[Frame], place: int) -> bool:
    """Whether the method at this place is followed at once by its header and its whole body: nearly always so."""
    if place + 2 >= len(frames):
        return False
    kind, number, header = frames[place + 1]
    body_kind, body_number, body = frames[place + 2]
    return (
        kind == HEADER
        and body_kind == BODY
        and number == body_number == frames[place][1]
        and header[:4] == BASIC
        and announced_size(header) == len(body) > 0
    )
