"""The line between one client and the broker, with faults: bytes in, bytes out, no I/O.

    client ── take ──> paced ──> frames ──> next ──> broker
    client <── take_out ── paced <── frames <── answered ── broker

Whoever has the socket hands the broker one frame after the other (`next`), and what the broker answers to it back
(`answered`), before it asks for the next frame. So it does not matter how the client's bytes were cut on their way, and
every confirm is known by the publication that it belongs to. Nothing here knows which broker that is: the same line in
a proxy commits the same faults in front of RabbitMQ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import inf
from struct import Struct
from typing import Any

from pamqp import commands

from waybill.broker import methods
from waybill.broker.content import BASIC
from waybill.broker.faults import (
    METHODS,
    Block,
    Confirms,
    Cut,
    Delay,
    Fault,
    HalfOpen,
    Injected,
    Nack,
    Refuse,
    Side,
    SlowReader,
    Withhold,
)
from waybill.broker.frames import HEADER, METHOD, frame
from waybill.broker.methods import answer
from waybill.broker.streams import Pace, Piece, Place, Stream, passing
from waybill.errors import ProtocolRefusal

PROTOCOL_HEADER = 8
"""Bytes that a client sends before its first frame."""

NOWHERE = "amq.waybill.nacked"
"""A routing key that no queue can have: clients may not declare names that begin with `amq.`."""

_TAG = Struct(">QB")
_EMPTY = BASIC + bytes(10)
"""A content header: no body, no properties."""

_ACK = methods.id_of(commands.Basic.Ack)
_NACK = methods.id_of(commands.Basic.Nack)
_PUBLISH = commands.Basic.Publish.index
_CHANNEL_OPEN = commands.Channel.Open.index
_CHANNEL_CLOSE = commands.Channel.Close.index
_CHANNEL_CLOSE_OK = commands.Channel.CloseOk.index
_CONNECTION_CLOSES = (commands.Connection.Close.index, commands.Connection.CloseOk.index)


class Line:
    """One client's line to the broker.

    Args:
        faults: those of this connection, with a number in place of each range.
        number: of the connection, for what is noted.
        injected: where the faults that have happened are noted.
        frame_max: bytes of a frame, as the broker offers them; what is larger is for the broker to refuse.

    Attributes:
        resets: the client is to get a reset, and not the end of the stream.
        is_silent: nothing passes any more, in either direction, and the socket stays open.
    """

    def __init__(self, faults: tuple[Fault, ...], number: int, injected: list[Injected], frame_max: int) -> None:
        self._number = number
        self._injected = injected
        self._points = [one for one in faults if isinstance(one, Cut | HalfOpen)]
        self._confirms = [one for one in faults if isinstance(one, Confirms)]
        self._nacks = [one for one in faults if isinstance(one, Nack) and not one.is_kept]
        self._refusals = [one for one in faults if isinstance(one, Refuse)]
        self._blocks = [one for one in faults if isinstance(one, Block)]
        self._streams: dict[Side, Stream] = {
            "client": Stream(frame_max, PROTOCOL_HEADER),
            "broker": Stream(),
        }
        paces = {one.side: one for one in faults if isinstance(one, SlowReader)}
        self._paced_in = Pace(paces.get("broker"))
        self._paced_out = Pace(paces.get("client"))
        self._out = bytearray()
        self._is_ended = False
        self.resets = False
        self.is_silent = False
        # publications
        self._publications = 0
        self._tags: dict[int, int] = {}  # confirming channel → its publications
        self._unconfirmed: dict[int, dict[int, int]] = {}  # channel → delivery tag → number of the publication
        self._dropping: set[int] = set()  # channels whose publication under way is not to reach the broker
        self._delayed: deque[tuple[float, int, bytes]] = deque()
        # refusing
        self._is_open = False
        self._is_refused = False
        self._refused: set[int] = set()  # channels that the client has not said close-ok for
        self._closing: set[int] = set()  # those that the broker has not
        # blocking
        self._is_told_of_blocks = False
        self._blocked_from: Block | None = None
        self._blocked_until: float | None = None

    # from the client

    def take(self, data: bytes, now: float) -> None:
        """The client has sent bytes."""
        self._note_pace(self._paced_in, "client")
        self._paced_in.feed(data, now)

    def next(self, now: float) -> bytes | None:
        """The bytes that the broker gets next, at most one frame; None where there are none for now."""
        stream = self._streams["client"]
        stream.feed(self._paced_in.take(now))
        while not self._is_stopped(now) and (one := stream.next()) is not None:
            data = self._from_client(one)
            if data:
                return data
        return None

    def _is_stopped(self, now: float) -> bool:
        if self._blocked_from is not None:  # after the answer to the last publication
            fault, self._blocked_from = self._blocked_from, None
            self._blocked_until = inf if fault.seconds is None else now + fault.seconds
            self._note(fault, "client")
            if self._is_told_of_blocks:
                self._write(answer(commands.Connection.Blocked, reason="low on memory"), 0)
        if self._blocked_until is not None and now >= self._blocked_until:
            self._blocked_until = None
            if self._is_told_of_blocks:
                self._write(answer(commands.Connection.Unblocked), 0)
        # A client opens its channel again as soon as it has said close-ok; RabbitMQ wants to have said it, too.
        is_closing = bool(self._closing - self._refused)
        return self._is_ended or self.is_silent or self._blocked_until is not None or is_closing

    def _from_client(self, one: Piece) -> bytes:
        """What the broker gets of a frame."""
        place = self._streams["client"].place(one)
        if self._is_refused or one.channel in self._refused:
            return self._from_refused(one)
        index = one.method
        if index == _PUBLISH:
            self._publishes(one.channel)
        data = one.data
        for point in self._points:
            if point.side == "client" and (size := passing(point, one, place)) is not None:
                self._end(point)
                return data[:size]
        if index:
            for refusal in self._refusals:
                if index == METHODS[refusal.method] and place.nth == refusal.nth:
                    return self._refuse(refusal, one)
        if one.channel in self._dropping:
            return self._drop(one, place)
        self._observe(one, index)
        if place.method == _PUBLISH and place.is_last:
            self._count_for_blocks()
        return data

    def _observe(self, one: Piece, index: int) -> None:
        """Note what a method says about the connection and its channels."""
        if index == commands.Connection.StartOk.index:
            self._is_told_of_blocks = _is_told_of_blocks(one.payload)
        elif index == commands.Confirm.Select.index:
            self._tags.setdefault(one.channel, 0)
        elif index in (_CHANNEL_OPEN, _CHANNEL_CLOSE):
            self._forget_channel(one.channel)

    def _forget_channel(self, channel: int) -> None:
        self._tags.pop(channel, None)
        self._unconfirmed.pop(channel, None)
        self._dropping.discard(channel)
        self._delayed = deque(late for late in self._delayed if late[1] != channel)

    # publications

    def _publishes(self, channel: int) -> None:
        self._publications += 1
        if channel in self._tags:
            tag = self._tags[channel] = self._tags[channel] + 1
            self._unconfirmed.setdefault(channel, {})[tag] = self._publications
            if any(self._publications in nack for nack in self._nacks):
                self._dropping.add(channel)

    def _drop(self, one: Piece, place: Place) -> bytes:
        """In place of a publication that is nacked the broker gets one without a body, which reaches no queue.

        So the broker's delivery tags stay those of the client.
        """
        if not place.is_last:
            return b""
        self._dropping.discard(one.channel)
        self._count_for_blocks()
        bits = {"mandatory": False, "immediate": False}
        publish = answer(commands.Basic.Publish, ticket=0, exchange="", routing_key=NOWHERE, **bits)
        return methods.encode(publish, one.channel) + frame(HEADER, one.channel, _EMPTY)

    def _count_for_blocks(self) -> None:
        for block in self._blocks:
            if block.after == self._publications:
                self._blocked_from = block

    # refusing

    def _refuse(self, refusal: Refuse, one: Piece) -> bytes:
        """Close in the broker's name, and let the broker think that the client has closed."""
        self._note(refusal, "client")
        index, channel = one.method, one.channel
        details = {
            "reply_code": refusal.code,
            "reply_text": refusal.reply_text,
            "class_id": index >> 16,
            "method_id": index & 0xFFFF,
        }
        leave = {"reply_code": 200, "reply_text": "", "class_id": 0, "method_id": 0}
        if refusal.closes_connection or not channel:
            self._is_refused = True
            self._to_client(Piece(methods.encode(answer(commands.Connection.Close, **details), 0), METHOD))
            return methods.encode(answer(commands.Connection.Close, **leave), 0) if self._is_open else b""
        self._forget_channel(channel)
        self._refused.add(channel)
        close = methods.encode(answer(commands.Channel.Close, **details), channel)
        self._to_client(Piece(close, METHOD, channel))
        if index == _CHANNEL_OPEN:
            return b""
        self._closing.add(channel)
        return methods.encode(answer(commands.Channel.Close, **leave), channel)

    def _from_refused(self, one: Piece) -> bytes:
        """Pass over what a refused client says, until it has understood."""
        index, channel = one.method, one.channel
        if self._is_refused:
            if index in _CONNECTION_CLOSES:
                self._is_ended = True
        elif index == _CHANNEL_CLOSE_OK:
            self._refused.discard(channel)
        elif index == _CHANNEL_CLOSE:  # at the same moment
            self._to_client(Piece(methods.encode(answer(commands.Channel.CloseOk), channel), METHOD, channel))
        return b""

    # from the broker

    def answered(self, data: bytes, now: float) -> None:
        """The broker has sent bytes."""
        if self._is_ended or self.is_silent or not data:
            return
        stream = self._streams["broker"]
        stream.feed(data)
        while (one := stream.next()) is not None:
            if self._is_refused:
                continue
            index = one.method
            if one.channel in self._closing:
                if index == _CHANNEL_CLOSE_OK:
                    self._closing.discard(one.channel)
                continue
            if index == commands.Connection.OpenOk.index:
                self._is_open = True
            elif index == _CHANNEL_CLOSE:
                self._forget_channel(one.channel)
            for sent in self._confirmed(one, now) if self._confirms else (one,):
                self._to_client(sent)

    def _confirmed(self, one: Piece, now: float) -> Iterator[Piece]:
        """A frame with the faults of confirms: what the client gets of it now."""
        payload, unconfirmed = one.payload, self._unconfirmed.get(one.channel)
        if one.kind != METHOD or payload[:4] not in (_ACK, _NACK) or not unconfirmed:
            yield one
            return
        last, bits = _TAG.unpack_from(payload, 4)
        tags = [tag for tag in unconfirmed if tag <= last or not last] if bits & 1 else [last]
        settled = [(tag, unconfirmed.pop(tag, 0)) for tag in tags]
        if not any(number in fault for _, number in settled for fault in self._confirms):
            yield one
            return
        for tag, number in settled:
            late = self._settle(payload[:4], one.channel, tag, number, now)
            if late is not None:
                yield late

    def _settle(self, method: bytes, channel: int, tag: int, number: int, now: float) -> Piece | None:
        """The confirm of one publication, None where it is not sent now."""
        seconds = 0.0
        for fault in self._confirms:
            if number not in fault:
                continue
            self._note(fault, "broker")
            if isinstance(fault, Withhold):
                return None
            if isinstance(fault, Nack):
                method = _NACK
            elif isinstance(fault, Delay):
                seconds += fault.seconds
        bits = 2 if method == _NACK else 0  # RabbitMQ's nacks say `requeue`, too
        data = frame(METHOD, channel, method + _TAG.pack(tag, bits))
        if not seconds:
            return Piece(data, METHOD, channel)
        self._delayed.append((now + seconds, channel, data))
        self._delayed = deque(sorted(self._delayed, key=lambda late: late[0]))
        return None

    # to the client

    def _write(self, method: Any, channel: int) -> None:
        self._to_client(Piece(methods.encode(method, channel), METHOD, channel))

    def _to_client(self, one: Piece) -> None:
        """Count a frame and send it, unless the line has ended."""
        if self._is_ended or self.is_silent:
            return
        place = self._streams["broker"].place(one)
        for point in self._points:
            if point.side == "broker" and (size := passing(point, one, place)) is not None:
                self._out += one.data[:size]
                self._end(point)
                return
        self._out += one.data

    def take_out(self, now: float) -> bytes:
        """What the client is to be sent by now."""
        while self._delayed and self._delayed[0][0] <= now:
            _, channel, data = self._delayed.popleft()
            self._to_client(Piece(data, METHOD, channel))
        if self._out:
            self._note_pace(self._paced_out, "broker")
            self._paced_out.feed(bytes(self._out), now)
            self._out.clear()
        return self._paced_out.take(now)

    # where the line stands

    @property
    def is_over(self) -> bool:
        """Whether the socket is to be closed: the line has ended, and what was sent before has been taken out."""
        return self._is_ended and not self.unread

    @property
    def is_paced(self) -> bool:
        """Whether the broker reads slowly."""
        return self._paced_in.fault is not None

    @property
    def unread(self) -> int:
        """Bytes for the client that are still kept here."""
        return len(self._out) + len(self._paced_out)

    @property
    def is_reading(self) -> bool:
        """Whether more is to be read from the client."""
        return not (self._is_ended or self.is_silent or self._blocked_until is not None or len(self._paced_in))

    @property
    def next_time(self) -> float | None:
        """When `next` and `take_out` are to be called again though nothing has come, None for never."""
        times = [self._paced_out.due]
        if not (self._is_ended or self.is_silent):
            times += [self._paced_in.due, inf if self._blocked_until is None else self._blocked_until]
            times += [self._delayed[0][0]] if self._delayed else []
        first = min(times)
        return None if first == inf else first

    def _end(self, point: Cut | HalfOpen) -> None:
        self._note(point, point.side)
        self._delayed.clear()
        if isinstance(point, Cut):
            self._is_ended = True
            self.resets = point.reset
        else:
            self.is_silent = True

    def _note(self, fault: Fault, side: Side) -> None:
        self._injected.append(Injected(fault, self._number, self._streams[side].count))

    def _note_pace(self, pace: Pace, side: Side) -> None:
        if pace.fault is not None and not pace.is_noted:
            pace.is_noted = True
            self._note(pace.fault, side)


def _is_told_of_blocks(start_ok: bytes) -> bool:
    """Whether a client has announced that it knows `connection.blocked`."""
    try:
        capabilities = methods.decode(start_ok).client_properties.get("capabilities")
    except ProtocolRefusal:  # for the broker to tell
        return False
    return isinstance(capabilities, dict) and capabilities.get("connection.blocked") is True
