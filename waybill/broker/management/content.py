"""A message's properties and body between the JSON of the management API and AMQP."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from struct import Struct
from typing import Any

from waybill.broker import tables
from waybill.broker.content import BASIC
from waybill.broker.firehose import NAMES, NUMBERS
from waybill.broker.management.call import Problem
from waybill.broker.properties import HEADERS, headers_of, split

_SIZE = Struct(">Q")
_WIDTHS = {6: 8, 11: 1, 12: 1}
"""Bytes of timestamp, priority and delivery mode; the other properties are short strings."""


def header_of(properties: Mapping[str, Any], size: int) -> bytes:
    """The payload of a content header frame.

    Args:
        properties: as the API's clients write them; names that it doesn't know are passed over.
        size: bytes of the body.

    Raises:
        Problem: 400, a value of the wrong type.
    """
    flags, parts = 0, []
    for bit, name in reversed(NAMES.items()):
        value = properties.get(name)
        if value is None:
            continue
        flags |= 1 << bit
        if bit == HEADERS:
            data = tables.join(sorted((key, _field(one)) for key, one in _table(value).items()))
            parts.append(len(data).to_bytes(4, "big") + data)
        elif bit in NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 8 * _WIDTHS[bit]:
                raise Problem.bad(["not_int", name])
            parts.append(value.to_bytes(_WIDTHS[bit], "big"))
        else:
            if not isinstance(value, str) or len(value.encode()) > 255:
                raise Problem.bad(["not_string", name])
            parts.append(tables.short_string(value))
    return b"".join((BASIC, _SIZE.pack(size), flags.to_bytes(2, "big"), *parts))


def arguments_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they come over AMQP: whole numbers are 64 bits wide."""
    return tables.plain(tables.join((name, _field(value)) for name, value in table.items()))


def _table(value: object) -> Mapping[str, Any]:
    if value == []:
        return {}
    if not isinstance(value, Mapping):
        raise Problem.bad("headers: expected an object")
    return value


def _field(value: Any) -> bytes:
    if value is None:
        raise Problem.bad("null_not_allowed")
    if isinstance(value, bool):
        return tables.boolean(value)
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise Problem.bad("an integer of more than 64 bits")
        return tables.long_integer(value)
    if isinstance(value, float):
        return tables.double(value)
    if isinstance(value, str):
        return tables.long_string(value)
    if isinstance(value, list):
        return tables.array(map(_field, value))
    return tables.table(sorted((name, _field(one)) for name, one in value.items()))


def properties_of(header: bytes) -> dict[str, Any] | list[Any]:
    """The properties in a header, as RabbitMQ shows them: an empty list where there are none."""
    parts, found = split(header), dict[str, Any]()
    for bit, name in NAMES.items():
        part = parts.get(bit)
        if part is None:
            continue
        if bit == HEADERS:
            found[name] = {key: field.value for key, field in headers_of(header).items()}
        elif bit in NUMBERS:
            found[name] = int.from_bytes(part, "big")
        else:
            found[name] = part[1:].decode("utf-8", "replace")
    return found or []


def body_of(payload: str, encoding: str) -> bytes:
    """The bytes of a body.

    Raises:
        Problem: 400, it isn't in that encoding, or there is no such encoding.
    """
    if encoding == "string":
        return payload.encode("utf-8", "surrogatepass")
    if encoding != "base64":
        raise Problem.bad(["unsupported_encoding", encoding])
    try:
        return b64decode(payload, validate=True)
    except ValueError:
        raise Problem.bad(["not_base64", payload]) from None


def shown(body: bytes, encoding: str, truncate: int | None) -> tuple[str, str]:
    """A body for JSON, and in which encoding it is: as text where it is UTF-8 and `encoding` is `auto`."""
    cut = body if truncate is None else body[:truncate]
    if encoding == "auto":
        try:
            return cut.decode(), "string"
        except UnicodeDecodeError:
            pass
    return b64encode(cut).decode(), "base64"


def plain(value: Any) -> Any:
    """What JSON has no word for: `json.dumps(..., default=plain)`."""
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
