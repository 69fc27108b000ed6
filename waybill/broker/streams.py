"""What one side of a connection sends, in frames that are counted and at a rate: what faults are placed by."""

from __future__ import annotations

from math import inf
from struct import Struct
from typing import NamedTuple

from waybill.broker import methods
from waybill.broker.content import announced_size
from waybill.broker.faults import METHODS, Point, SlowReader
from waybill.broker.frames import BODY, END, HEADER, HEARTBEAT, METHOD, OVERHEAD

TICK = 0.005
"""Seconds between two pieces that a slow reader takes."""

_HEAD = Struct(">BHI")


class Piece(NamedTuple):
    """One frame as it stands in the stream, or bytes that are none."""

    data: bytes
    kind: int = 0
    channel: int = 0

    @property
    def payload(self) -> bytes:
        return self.data[7:-1]

    @property
    def method(self) -> int:
        """The index of its method, 0 where it is none."""
        return methods.index_of(self.payload) if self.kind == METHOD and len(self.data) >= OVERHEAD + 4 else 0


class Place(NamedTuple):
    """Where a frame stands in what one side sends.

    Args:
        number: among all frames but heartbeats.
        method: the index of its method, or of the one whose content it is part of.
        nth: among the methods of this kind.
        start: bytes of the method and its content before this frame.
        is_last: nothing more belongs to the method.
    """

    number: int
    method: int
    nth: int
    start: int
    is_last: bool


class Stream:
    """What one side sends, cut into frames and counted.

    Args:
        limit: bytes of a frame's payload; None for a side that is trusted.
        before: bytes before the first frame.
    """

    def __init__(self, limit: int | None = None, before: int = 0) -> None:
        self._limit = limit
        self._before = before
        self._is_broken = False
        self._data = bytearray()
        self._nths: dict[int, int] = {}
        # channel → method index, nth, bytes so far, bytes of the body to come (None before the header)
        self._open: dict[int, tuple[int, int, int, int | None]] = {}
        self.count = 0

    def feed(self, data: bytes) -> None:
        self._data += data

    def next(self) -> Piece | None:
        """The next frame; None where it is not whole yet. What is no frame is for the broker to judge, and passes."""
        data = self._data
        if self._before:
            if len(data) < self._before:
                return None
            return Piece(self._take(self._before))
        if self._is_broken:
            return Piece(self._take(len(data))) if data else None
        if len(data) < OVERHEAD:
            return None
        kind, channel, size = _HEAD.unpack_from(data)
        end = size + OVERHEAD
        if (self._limit is not None and size > self._limit) or (len(data) >= end and data[end - 1] != END):
            self._is_broken = True
            return Piece(self._take(len(data)))
        return Piece(self._take(end), kind, channel) if len(data) >= end else None

    def _take(self, size: int) -> bytes:
        data = bytes(self._data[:size])
        del self._data[:size]
        self._before = 0
        return data

    def place(self, one: Piece) -> Place:
        """Count a frame."""
        kind, channel = one.kind, one.channel
        if not kind or kind == HEARTBEAT:
            return Place(0, 0, 0, 0, is_last=True)
        self.count += 1
        method, nth, start, left = self._open.pop(channel, (0, 0, 0, None))
        if kind == METHOD:
            method, start, left = one.method, 0, None
            nth = self._nths[method] = self._nths.get(method, 0) + 1
            is_last = method not in methods.CONTENT_METHODS
        elif kind == HEADER and len(one.data) >= OVERHEAD + 12:
            left = announced_size(one.payload)
            is_last = not left
        elif kind == BODY and left is not None:
            left -= len(one.data) - OVERHEAD
            is_last = left <= 0
        else:
            is_last = True
        if not is_last:
            self._open[channel] = (method, nth, start + len(one.data), left)
        return Place(self.count, method, nth, start, is_last)


def passing(point: Point, one: Piece, place: Place) -> int | None:
    """How many bytes of a frame still pass, None where the point is not within it."""
    size, byte = len(one.data), point.byte
    assert not isinstance(byte, range), "the connection's faults are drawn"
    if point.of is None:
        if place.number != point.frame:
            return None
        return size if byte is None else min(byte, size)
    if place.method != METHODS[point.of] or place.nth != point.frame:
        return None
    if byte is not None and place.start <= byte < place.start + size:
        return byte - place.start
    return size if place.is_last else None


class Pace:
    """Lets bytes through at a rate."""

    def __init__(self, fault: SlowReader | None) -> None:
        self.fault = fault
        self._rate = inf if fault is None else fault.bytes_per_second
        self._held = bytearray()
        self._since = 0.0
        self.is_noted = False

    def __len__(self) -> int:
        return len(self._held)

    def feed(self, data: bytes, now: float) -> None:
        if not self._held:
            self._since = now
        self._held += data

    def take(self, now: float) -> bytes:
        """What may pass by now."""
        held = self._held
        # A millionth of a byte less is a clock's rounding.
        size = len(held) if self.fault is None else min(int((now - self._since) * self._rate + 1e-6), len(held))
        data = bytes(held[:size])
        del held[:size]
        if self.fault is not None:
            self._since += size / self._rate
        return data

    @property
    def due(self) -> float:
        """When more may pass."""
        return self._since + min(len(self._held), max(1, self._rate * TICK)) / self._rate if self._held else inf
