"""One connection's state: bytes in, bytes out, no I/O.

    handshake → running → closing → closed

`receive` takes what the socket gave; what is to be written stands in `output` afterwards, of this connection and of
every other that a delivery went to. `is_finished` says that the socket is to be closed when that is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pamqp import base, commands

from waybill.broker import methods
from waybill.broker.accounts import Accounts
from waybill.broker.channel import Channel
from waybill.broker.clock import Clock
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
from waybill.broker.handshake import Agreement, Ending, Handshake, out_of_place
from waybill.broker.limits import LINGER, Limits
from waybill.broker.memory import Memory
from waybill.broker.methods import answer
from waybill.broker.operations import OPERATIONS, not_implemented
from waybill.broker.output import Output
from waybill.broker.queue import Queue
from waybill.broker.vhost import VHost
from waybill.errors import ProtocolRefusal, TopologyError

_CLOSE_OK = methods.id_of(commands.Connection.CloseOk)
_PUBLISH = methods.id_of(commands.Basic.Publish)
_SETTLEMENTS = {
    methods.id_of(kind): kind.index for kind in (commands.Basic.Ack, commands.Basic.Nack, commands.Basic.Reject)
}
"""With publish nearly all that ever comes: they are read by hand, before the table of operations."""


class State(Enum):
    """Where a connection stands."""

    HANDSHAKE = "handshake"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"


TURN = 10_000
"""Copies that one connection's publications may put into queues before another connection has its turn: some 20 ms."""


@dataclass(slots=True)
class Traffic:
    """What has gone over one connection's socket.

    Attributes:
        since: when the connection was opened, seconds since 1970.
        reads, writes: how often something came and went.
        received, sent: octets.
    """

    since: float = 0.0
    reads: int = 0
    received: int = 0
    writes: int = 0
    sent: int = 0


class Home(Protocol):
    """What a connection needs around it: the broker's objects.

    Attributes:
        connections: all that there are, this one added by itself.
        dirty: those that have something to write.
    """

    limits: Limits
    clock: Clock
    memory: Memory
    connections: set[Connection]
    dirty: list[Connection]

    @property
    def accounts(self) -> Accounts:
        """Who may log in, and do what."""

    def barred(self, user: str, vhost: str) -> str | None:
        """Why a user may not open a vhost, None where he may."""

    def vhost(self, name: str) -> VHost:
        """A vhost that may be opened; it is made when it is first asked for."""


class Connection:
    """One client's connection, as `client.Client` for its channels.

    Args:
        home: the broker.

    Attributes:
        name: `peer host:port -> host:port`, as RabbitMQ names a connection; whoever has its socket sets it.
        is_finished: nothing more is written: the socket is to be closed.
        is_blocked: it publishes while the queues hold too much, and isn't read.
        owned: its exclusive queues.
        traffic: what has gone over its socket.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._clock = home.clock
        self.name = ""
        self.traffic = Traffic()
        self.state = State.HANDSHAKE
        self.output = Output(home.limits.write_buffer, self._mark_dirty)
        self.is_finished = False
        self.is_blocked = False
        self.has_published = False
        self.agreed = Agreement()
        self.rights = home.accounts.rights("", "")
        self.channels: dict[int, Channel] = {}
        self.owned: set[Queue] = set()
        self.to_confirm: list[Callable[[], None]] = []
        self._left: list[Frame] = []
        self._unread = 0
        self._vhost: VHost | None = None
        self._last_received = self._last_sent = self._clock.now
        self._reader = FrameReader()
        self._handshake = Handshake(home.accounts.passwords, home.limits, home.barred, self._reader, self.output)
        home.connections.add(self)
        self._clock.wake_at(self, self._clock.now + home.limits.handshake, self.finish)

    # bytes in

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        self._last_received = self._clock.now
        self.traffic.reads += 1
        self.traffic.received += len(data)
        frames = self._shake_hands(data) if self.state is State.HANDSHAKE else self._reader.feed(data)
        self._take(self._left + frames if self._left else frames)

    @property
    def has_more(self) -> bool:
        """Whether frames that came are left for the next turn: no more is read until then."""
        return bool(self._left)

    def go_on(self) -> None:
        """Take the frames that were left, or as many of them as one turn allows."""
        self._last_received = self._clock.now  # a heartbeat may be behind them, unread
        self._take(self._left)

    def _take(self, frames: list[Frame]) -> None:
        self._left = []
        if self.state is State.RUNNING:
            self._run(frames)
        else:
            self._await_close_ok(frames)
        if self._reader.failure is not None and not self._left and not self.is_finished:
            self._refuse(self._reader.failure)
        if self.to_confirm:
            self._flush_confirms()
        if self.has_published and self._home.memory.is_alarmed and self.state is State.RUNNING:
            self._block()

    def _shake_hands(self, data: bytes) -> list[Frame]:
        """Go on with the handshake; returns the frames that came behind its end."""
        outcome, rest = self._handshake.receive(data)
        if isinstance(outcome, Agreement):
            self._start_running(outcome)
        elif isinstance(outcome, ProtocolRefusal):
            self._refuse(outcome)
        elif outcome is Ending.DISTRUSTED:
            self._close_silently()
        elif outcome is Ending.OTHER_PROTOCOL:
            self.state = State.CLOSED
            self.finish()
        return rest

    def _start_running(self, agreed: Agreement) -> None:
        """From here on heartbeats are due, and not the end of the handshake."""
        self.agreed = agreed
        self.output.room = agreed.frame_max - OVERHEAD
        self._vhost = self._home.vhost(agreed.vhost)
        self.rights = self._home.accounts.rights(agreed.user, agreed.vhost)
        self.state = State.RUNNING
        self.traffic.since = self._clock.wall
        self._clock.forget(self)
        if agreed.heartbeat:
            self._clock.wake_at(self, self._clock.now + agreed.heartbeat / 2, self._on_heartbeat)

    def _run(self, frames: list[Frame]) -> None:
        channels, place, count = self.channels, 0, len(frames)
        vhost = self._vhost
        assert vhost is not None, "a running connection has opened its vhost"
        vhost.copies = 0
        while place < count:
            kind, number, payload = frames[place]
            channel = channels.get(number)
            taken = 1
            try:
                if channel is None or kind != METHOD or channel.content.method is not None or channel.is_closing:
                    self._take_frame(kind, number, payload)
                elif payload[:4] == _PUBLISH and _is_publication(frames, place):
                    taken = 3
                    channel.publisher.publish(payload, frames[place + 1][2], frames[place + 2][2])
                elif (index := _SETTLEMENTS.get(payload[:4])) is not None:
                    channel.deliveries.settle(payload, index)
                else:
                    self._take_frame(kind, number, payload)
            except ProtocolRefusal as refusal:
                self._refuse(refusal, number, payload)
            except TopologyError as error:
                index = methods.index_of(payload) if kind == METHOD else methods.PUBLISH
                self._refuse(ProtocolRefusal(error.reply_code, error.text, index), number, payload)
            place += taken
            if self.state is not State.RUNNING:
                self._await_close_ok(frames[place:])
                return
            if vhost.copies > TURN:
                self._left = frames[place:]
                return

    def _take_frame(self, kind: int, number: int, payload: bytes) -> None:
        if not number:
            self._on_channel_zero(kind, payload)
            return
        channel = self.channels.get(number)
        if channel is None:
            self._open_channel(kind, number, payload)
            return
        taken = channel.content.take(kind, payload)
        if taken is None:
            self.has_published = True  # and is to stop, if need be, before its message is whole
        elif isinstance(taken, bytes):
            self._operate(channel, taken)
        elif not channel.is_closing:
            if methods.index_of(taken[0]) != methods.PUBLISH:
                raise ProtocolRefusal(503, "unimplemented method", methods.index_of(taken[0]))
            channel.publisher.publish(*taken)

    def _operate(self, channel: Channel, payload: bytes) -> None:
        index = methods.index_of(payload)
        if channel.is_closing:
            self._on_closing_channel(channel, index)
        elif not methods.is_known(index):
            raise ProtocolRefusal(503, "unimplemented method", index)
        else:
            method = methods.decode(payload)
            channel.publisher.flush_confirms()
            try:
                reply = OPERATIONS.get(index, not_implemented)(channel, method)
            except ProtocolRefusal as refusal:
                refusal.method = refusal.method or index
                raise
            if reply is not None:
                channel.write(reply)

    # channels

    def _open_channel(self, kind: int, number: int, payload: bytes) -> None:
        """A frame for a channel that is not open: only `channel.open` may come."""
        assert self._vhost is not None, "a channel is opened on a running connection"
        channel = Channel(number, self, self._vhost)
        taken = channel.content.take(kind, payload)
        if len(self.channels) >= self.agreed.channel_max:
            raise ProtocolRefusal(
                530,
                f"number of channels opened ({len(self.channels)}) has reached the negotiated channel_max "
                f"({self.agreed.channel_max})",
            )
        index = methods.index_of(payload)
        if isinstance(taken, bytes) and methods.is_known(index):
            methods.decode(payload)
        if index != commands.Channel.Open.index:
            raise ProtocolRefusal(504, "expected 'channel.open'", index)
        self.channels[number] = channel
        self.output.write_method(answer(commands.Channel.OpenOk), number)

    def forget_channel(self, number: int) -> None:
        """A channel is closed: its number may be used again."""
        self.channels.pop(number).content.drop()

    def _on_closing_channel(self, channel: Channel, index: int) -> None:
        if index == commands.Channel.Close.index:
            channel.write(answer(commands.Channel.CloseOk))
        elif index == commands.Channel.CloseOk.index:
            self.forget_channel(channel.number)

    def _flush_confirms(self) -> None:
        flushes, self.to_confirm = self.to_confirm, []
        for flush in flushes:
            flush()

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
            self.output.write_method(answer(commands.Connection.CloseOk), 0)
            self.state = State.CLOSED
            # The client closes the socket: it may still be writing, and a reset would take the answer from it.
            self._finish_in(min(self.agreed.heartbeat or LINGER, LINGER))
        elif index == commands.Connection.UpdateSecret.index:
            methods.decode(payload)
            self.output.write_method(answer(commands.Connection.UpdateSecretOk), 0)
        elif methods.is_known(index):
            raise out_of_place(index, self.state.value)
        else:
            raise ProtocolRefusal(503, "unimplemented method", index)

    def _await_close_ok(self, frames: list[Frame]) -> None:
        """A client that was refused may still say much: one word ends it."""
        for kind, number, payload in frames:
            if not number and kind == METHOD and payload[:4] == _CLOSE_OK:
                self.state = State.CLOSED
                self.finish()

    # refusing and ending

    def _refuse(self, refusal: ProtocolRefusal, number: int = 0, payload: bytes = b"") -> None:
        """Answer with a close of the channel or of the connection."""
        method = refusal.method
        if number and not refusal.closes_connection:
            if not method and len(payload) >= 4:
                method = methods.PUBLISH
            self.channels[number].end()
            self._write_close(commands.Channel.Close, number, refusal, method)
            return
        if self.state in (State.CLOSING, State.CLOSED):
            return
        self._end(self.channels.get(number))
        self.state = State.CLOSING
        self._write_close(commands.Connection.Close, 0, refusal, method)
        self._finish_in(self._home.limits.closing)

    def _write_close(self, kind: type[base.Frame], number: int, refusal: ProtocolRefusal, method: int) -> None:
        close = answer(
            kind,
            reply_code=refusal.reply_code,
            reply_text=refusal.reply_text,
            class_id=method >> 16,
            method_id=method & 0xFFFF,
        )
        self.output.write_method(close, number)

    def _close_silently(self) -> None:
        """Close without a word and not at once: what came is no client, or one that guesses."""
        self.state = State.CLOSING
        self._finish_in(self._home.limits.silent_close)

    def _finish_in(self, seconds: float) -> None:
        self._clock.forget(self)
        self._clock.wake_at(self, self._clock.now + seconds, self.finish)

    def _end(self, guilty: Channel | None = None) -> None:
        """Leave everything that was open: channels first, then the exclusive queues.

        As on RabbitMQ a guilty channel ends first, and the connection's other consumers are offered what it had. In
        which order those end is chance there; here all of them leave before anything of theirs goes back.
        """
        if self._vhost is None:
            return
        if guilty is not None and not guilty.is_closing:
            for channel in self.channels.values():
                channel.deliveries.expect_no_acks()
            guilty.end()
        left = [(channel, channel.leave()) for channel in self.channels.values() if not channel.is_closing]
        for channel, over in left:
            channel.requeue(over)
        for channel in self.channels.values():  # one that was closing has taken frames since
            channel.content.drop()
        self.channels.clear()
        for queue in tuple(self.owned):
            self._vhost.delete_queue(queue)

    def lost(self) -> None:
        """The socket is gone."""
        self.state = State.CLOSED
        self._end()
        self._clock.forget(self)
        self._home.connections.discard(self)
        self.sent(0)
        self._left.clear()

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
        """Nothing more will be written: close the socket after what stands in `output`."""
        self.is_finished = True
        self._mark_dirty()

    # blocked publishers and slow readers

    def _block(self) -> None:
        if not self.is_blocked:
            self.is_blocked = True
            if self.agreed.is_told_of_blocks:
                self.output.write_method(answer(commands.Connection.Blocked, reason="low on memory"), 0)
            self._mark_dirty()

    def unblock(self) -> None:
        """The alarm is over."""
        self.is_blocked = False
        if self.agreed.is_told_of_blocks:
            self.output.write_method(answer(commands.Connection.Unblocked), 0)
        self._mark_dirty()

    def sent(self, waiting: int) -> None:
        """So many bytes are still waiting for the client to read."""
        if waiting != self._unread:
            self._home.memory.held += waiting - self._unread
            self._unread = waiting
        if self.output.sent(waiting):
            for channel in tuple(self.channels.values()):
                channel.deliveries.wake()

    # bytes out

    def _mark_dirty(self) -> None:
        self._home.dirty.append(self)

    def take_out(self) -> bytes:
        """What is to be written, in one piece."""
        data = self.output.take()
        if data:
            self._last_sent = self._clock.now
            self.traffic.writes += 1
            self.traffic.sent += len(data)
        return data

    # time

    def _on_heartbeat(self) -> None:
        now, interval = self._clock.now, self.agreed.heartbeat
        if now - self._last_received > 2 * interval and not self.is_blocked:
            self.finish()
            return
        if now - self._last_sent >= interval / 2:
            self.output.write(HEARTBEAT_FRAME)
        self._clock.wake_at(self, now + interval / 2, self._on_heartbeat)


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
