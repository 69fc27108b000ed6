"""A content header's properties, read only as far as the broker needs and rewritten only where it must.

A header frame's payload is `class id, weight, body size, flags, properties` (AMQP 0-9-1, section 4.2.6.1). The
broker keeps it as it came and sends it as it came. What routing, priority, expiry and the checks ask for is found
by stepping over the rest. The bytes inside the `headers` table are read only when an exchange compares headers,
when `CC` or `BCC` may be among them, or when a dead letter's history is written into it.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, NamedTuple

from waybill.broker import tables
from waybill.errors import ProtocolRefusal

_LONG = Struct(">I")
START = 14
"""Where the properties begin in a header frame's payload."""

HEADERS = 13
EXPIRATION = 8
REPLY_TO = 9
_BITS = range(15, 1, -1)
_TABLE = {HEADERS}
_FIXED = {12: 1, 11: 1, 6: 8}
"""Bytes of delivery-mode, priority and timestamp; the other properties are short strings, `headers` a table."""


class Found(NamedTuple):
    """What the broker reads of a message's properties.

    Args:
        headers: the bytes of the headers table, None where there is none.
        expiration: as it stands, None where there is none.
    """

    headers: bytes | None
    priority: int | None
    expiration: str | None
    reply_to: str | None
    user_id: str | None


NOTHING = Found(None, None, None, None, None)


def read(payload: bytes) -> Found:
    """Find what the broker needs in a header frame's payload.

    Raises:
        ProtocolRefusal: 541, as RabbitMQ's channel dies of properties that it cannot parse.
    """
    try:
        flags = payload[12] << 8 | payload[13]
        if not flags:
            return NOTHING
        return _read(payload, flags)
    except (IndexError, StructError, UnicodeDecodeError):
        raise ProtocolRefusal(541) from None


def is_persistent(payload: bytes) -> bool:
    """Whether a message that was taken survives a restart in a durable classic queue: `delivery-mode` 2."""
    flags = payload[12] << 8 | payload[13]
    if not flags & 0x1000:
        return False
    position = START
    for flag in (0x8000, 0x4000):
        if flags & flag:
            position += 1 + payload[position]
    if flags & 0x2000:
        position += 4 + int(_LONG.unpack_from(payload, position)[0])
    return payload[position] == 2


def _read(payload: bytes, flags: int) -> Found:  # noqa: PLR0912 - a property a branch, straight down the flags
    position = START
    headers = priority = expiration = reply_to = user_id = None
    if flags & 0x8000:
        position += 1 + payload[position]
    if flags & 0x4000:
        position += 1 + payload[position]
    if flags & 0x2000:
        end = position + 4 + _LONG.unpack_from(payload, position)[0]
        headers = payload[position + 4 : end]
        position = end
    if flags & 0x1000:
        position += 1
    if flags & 0x0800:
        priority = payload[position]
        position += 1
    if flags & 0x0400:
        position += 1 + payload[position]
    if flags & 0x0200:
        end = position + 1 + payload[position]
        reply_to = payload[position + 1 : end].decode()
        position = end
    if flags & 0x01FD:
        if flags & 0x0100:
            end = position + 1 + payload[position]
            expiration = payload[position + 1 : end].decode()
            position = end
        if flags & 0x0080:
            position += 1 + payload[position]
        if flags & 0x0040:
            position += 8
        if flags & 0x0020:
            position += 1 + payload[position]
        if flags & 0x0010:
            end = position + 1 + payload[position]
            user_id = payload[position + 1 : end].decode()
            position = end
        if flags & 0x0008:
            position += 1 + payload[position]
        if flags & 0x0004:
            position += 1 + payload[position]
        if flags & 0x0001:
            raise IndexError("no property has a flag in a second word")
    if position != len(payload):
        raise IndexError("properties end beside their frame's end")
    return Found(headers, priority, expiration, reply_to, user_id)


def plain_headers(raw: bytes) -> dict[str, Any]:
    """A headers table as a dictionary.

    Raises:
        ProtocolRefusal: 541 for bytes that are no table.
    """
    try:
        return tables.plain(raw)
    except (tables.TableError, IndexError):
        raise ProtocolRefusal(541) from None


def rewrite(payload: bytes, changes: dict[int, bytes | None]) -> bytes:
    """The same header with some properties set or taken away.

    Args:
        payload: a header frame's payload that `read` has accepted.
        changes: by the number of its flag bit, a property's encoded bytes, or None to take it away.
    """
    parts = {**split(payload), **changes}
    flags = 0
    encoded = []
    for bit in _BITS:
        part = parts.get(bit)
        if part is not None:
            flags |= 1 << bit
            encoded.append(part)
    return b"".join((payload[:12], flags.to_bytes(2, "big"), *encoded))


def split(payload: bytes) -> dict[int, bytes | None]:
    """The encoded properties in a header frame's payload that `read` has accepted, by the number of their flag bits."""
    flags = payload[12] << 8 | payload[13]
    position, parts = START, dict[int, bytes | None]()
    for bit in _BITS:
        if not flags >> bit & 1:
            continue
        if bit in _TABLE:
            end = position + 4 + _LONG.unpack_from(payload, position)[0]
        else:
            end = position + (_FIXED.get(bit) or 1 + payload[position])
        parts[bit] = payload[position:end]
        position = end
    return parts


def headers_of(payload: bytes) -> dict[str, tables.Field]:
    """The fields of the headers table, empty where there is none or none that can be read.

    Whoever sent such a table may be gone: what becomes of its message is not to be an error of others.
    """
    part = split(payload).get(HEADERS)
    try:
        return {} if part is None else tables.fields(part[4:])
    except (tables.TableError, IndexError):
        return {}


def with_headers(payload: bytes, entries: list[tuple[str, bytes]], **also: bytes | None) -> bytes:
    """The same header with this headers table, sorted; `expiration=None` takes the expiration away as well."""
    data = tables.join(sorted(entries))
    changes: dict[int, bytes | None] = {HEADERS: _LONG.pack(len(data)) + data}
    if "expiration" in also:
        changes[EXPIRATION] = also["expiration"]
    return rewrite(payload, changes)
