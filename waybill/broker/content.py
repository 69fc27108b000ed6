"""Content on one channel: a method, its header and its body come as frames of their own (AMQP 0-9-1, 4.2.6).

The order is the whole of it: method → header → body frames until the announced size is there. Errors and texts
are RabbitMQ's (rabbit_command_assembler.erl).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from waybill.broker.frames import BODY, HEADER, HEARTBEAT, METHOD, bad_frame, unexpected_frame
from waybill.broker.limits import MAX_BODY_BYTES, MAX_MESSAGE_BYTES
from waybill.broker.methods import CONTENT_METHODS, index_of
from waybill.errors import ProtocolRefusal

Whole = tuple[bytes, bytes, bytes]
"""A content: the payloads of its method and header frames, and its body."""

_HEADER_START = Struct(">HHQ")
BASIC = b"\x00\x3c\x00\x00"
"""How a content header's payload begins: class basic, weight 0."""


class Content:
    """What has come of the content that is under way.

    Args:
        account: told how many bytes are kept of it, or no more.
    """

    __slots__ = ("_account", "_body", "_header", "_remaining", "method")

    def __init__(self, account: Callable[[int], None]) -> None:
        self._account = account
        self.method: bytes | None = None
        self._header: bytes | None = None
        self._body: list[bytes] = []
        self._remaining = 0

    def take(self, kind: int, payload: bytes) -> bytes | Whole | None:
        """Take a frame.

        Returns:
            A method that has no content, a whole content, or None where more is to come.

        Raises:
            ProtocolRefusal: 501 or 505, the frame does not belong here.
        """
        if self._header is not None:
            return self._take_body(kind, payload)
        if self.method is not None:
            return self._take_header(kind, payload, self.method)
        if kind != METHOD:
            check_shape(kind, payload)
            raise ProtocolRefusal(505, "expected method frame, got non method frame instead")
        if len(payload) < 4:
            raise bad_frame(kind, payload)
        if index_of(payload) in CONTENT_METHODS:
            self.method = payload
            return None
        return payload

    def _take_header(self, kind: int, payload: bytes, method: bytes) -> Whole | None:
        check_shape(kind, payload)
        class_id, weight, size = _HEADER_START.unpack_from(payload) if kind == HEADER else (0, 1, 0)
        expected = "expected content header for class 60, got"
        if weight:
            raise ProtocolRefusal(505, f"{expected} non content header frame instead", index_of(method))
        if class_id != 60:
            raise ProtocolRefusal(505, f"{expected} one for class {class_id} instead", index_of(method))
        if size > MAX_BODY_BYTES:
            text = f"content body size {size} exceeds maximum allowed size {MAX_BODY_BYTES}"
            raise ProtocolRefusal(501, text, index_of(method))
        if not size:
            return self._whole(method, payload, b"")
        self._header = payload
        self._remaining = size
        return None

    def _take_body(self, kind: int, payload: bytes) -> Whole | None:
        method, header = self.method or b"", self._header or b""
        if kind != BODY:
            check_shape(kind, payload)
            text = "expected content body, got non content body frame instead"
            raise ProtocolRefusal(505, text, index_of(method))
        self._remaining -= len(payload)
        if self._remaining < 0:
            raise ProtocolRefusal(501, "content body frame exceeds remaining content size", index_of(method))
        if not self._remaining:
            return self._whole(method, header, b"".join((*self._body, payload)) if self._body else payload)
        if announced_size(header) <= MAX_MESSAGE_BYTES:  # a message to be refused is not worth keeping
            self._body.append(payload)
            self._account(len(payload))
        return None

    def _whole(self, method: bytes, header: bytes, body: bytes) -> Whole:
        self.drop()
        return method, header, body

    def drop(self) -> None:
        """Nothing more of it comes."""
        self.method = self._header = None
        if self._body:
            self._account(-sum(map(len, self._body)))
            self._body = []


def check_shape(kind: int, payload: bytes) -> None:
    """Refuse a frame that is none of AMQP's (501), or a heartbeat on a channel (505)."""
    if kind == HEARTBEAT and not payload:
        raise unexpected_frame(kind, payload)
    is_whole = kind == BODY or (kind == METHOD and len(payload) >= 4) or (kind == HEADER and len(payload) >= 12)
    if not is_whole:
        raise bad_frame(kind, payload)


def announced_size(header: bytes) -> int:
    """The body size in a content header's payload."""
    return int.from_bytes(header[4:12], "big")
