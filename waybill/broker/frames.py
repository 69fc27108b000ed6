"""Bytes ↔ frames: AMQP 0-9-1, section 4.2.3.

    octet type | short channel | long size | size octets of payload | 0xCE

A `FrameReader` keeps three outcomes apart: whole frames, bytes that are not a frame yet, and bytes that never
will be one. The last is an error with RabbitMQ's words (rabbit_reader.erl), told once, after the frames before it.
"""

from __future__ import annotations

from struct import Struct

from waybill.broker.limits import FRAME_SLACK, PRE_LOGIN_FRAME_MAX
from waybill.errors import ProtocolRefusal

METHOD = 1
HEADER = 2
BODY = 3
HEARTBEAT = 8
END = 0xCE
END_BYTE = b"\xce"
OVERHEAD = 8
"""Bytes of a frame that are not payload."""

HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

Frame = tuple[int, int, bytes]
"""Type, channel, payload."""

_HEAD = Struct(">BHI")
pack_head = _HEAD.pack


class FrameReader:
    """Cuts a stream into frames.

    Nothing larger than the limit is ever kept: a frame's size is judged as soon as its seven bytes of head are
    there. Read `frames` first and `failure` afterwards: the frames came before the failure on the wire.
    """

    __slots__ = ("_rest", "failure", "limit")

    def __init__(self, limit: int = PRE_LOGIN_FRAME_MAX) -> None:
        self.limit = limit
        self.failure: ProtocolRefusal | None = None
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now; empty once there has been a failure."""
        if self.failure is not None:
            return []
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        position, length = 0, len(data)
        largest = self.limit - OVERHEAD + FRAME_SLACK
        unpack = _HEAD.unpack_from
        while length - position >= 7:
            kind, channel, size = unpack(data, position)
            if size > largest:
                self._fail(kind, b"", f"{{frame_too_large,{size},{self.limit - OVERHEAD}}}")
                break
            end = position + 7 + size
            if end >= length:
                break
            payload = data[position + 7 : end]
            if data[end] != END:
                self._fail(kind, payload, f"{{invalid_frame_end_marker,{data[end]}}}")
                break
            frames.append((kind, channel, payload))
            position = end + 1
        self._rest = data[position:] if position else data
        return frames

    def _fail(self, kind: int, payload: bytes, reason: str) -> None:
        self.failure = bad_frame(kind, payload, reason)


def bad_frame(kind: int, payload: bytes, reason: str = "unknown_frame") -> ProtocolRefusal:
    """501 for a frame that cannot be read."""
    return ProtocolRefusal(501, f"type {kind}, {snippet(payload)}: {reason}")


def unexpected_frame(kind: int, payload: bytes) -> ProtocolRefusal:
    """505 for a frame that has no business here."""
    return ProtocolRefusal(505, f"type {kind}, {snippet(payload)}")


def snippet(payload: bytes) -> str:
    """The start of a payload as RabbitMQ shows it."""
    if len(payload) <= 16:
        return f"all octets = {erlang_binary(payload)}"
    return f"first 16 octets = {erlang_binary(payload[:16])}"


def erlang_binary(data: bytes) -> str:
    """Bytes as Erlang's `~p` writes them: text where all of it is printable, numbers otherwise."""
    if not data:
        return "<<>>"
    if all(32 <= octet < 127 or octet >= 160 or octet in b"\b\t\n\v\f\r\x1b" for octet in data):
        text = "".join(_ESCAPES.get(octet) or chr(octet) for octet in data)
        return f'<<"{text}">>'
    return f"<<{','.join(map(str, data))}>>"


_ESCAPES = {
    8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 27: "\\e", 34: '\\"', 92: "\\\\",
}  # fmt: skip


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """One frame."""
    return pack_head(kind, channel, len(payload)) + payload + END_BYTE


def content_frames(channel: int, header: bytes, body: bytes, room: int) -> bytes:
    """The frames of a content: its header as it came, its body cut to at most `room` bytes a frame."""
    size = len(body)
    if not size:
        return pack_head(HEADER, channel, len(header)) + header + END_BYTE
    if size <= room:
        return b"".join(
            (
                pack_head(HEADER, channel, len(header)),
                header,
                END_BYTE,
                pack_head(BODY, channel, size),
                body,
                END_BYTE,
            )
        )
    parts = [pack_head(HEADER, channel, len(header)), header, END_BYTE]
    for start in range(0, size, room):
        piece = body[start : start + room]
        parts += (pack_head(BODY, channel, len(piece)), piece, END_BYTE)
    return b"".join(parts)
