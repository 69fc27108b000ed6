"""AMQP field tables as RabbitMQ reads them (rabbit_binary_parser.erl), bounded in depth.

Two readings of the same bytes: `plain` gives Python values, which is what routing compares; `fields` keeps each
top-level value's bytes as well, so that a table can be changed in one place and passed on otherwise untouched.
Integers and floats keep the name of their width (`wire_type`), because RabbitMQ names it in its sentences.
pamqp's reader loses the widths and recurses without a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, NamedTuple

from waybill.broker.limits import MAX_NESTING

_LONG = Struct(">I")
_LONGLONG = Struct(">Q")


class TableError(ValueError):
    """Bytes that are not a field table, or one nested deeper than `MAX_NESTING`."""


class WireInt(int):
    """An integer that remembers the width it had on the wire, under RabbitMQ's name for it."""

    wire_type: str


class WireFloat(float):
    """A float that remembers that it was a single one."""

    wire_type = "float"


class Field(NamedTuple):
    """One entry of a table: its value, and the bytes it came as, type octet included."""

    value: Any
    raw: bytes


def _widths() -> dict[int, tuple[type[WireInt], Struct]]:
    widths = {}
    names = {
        "b": ("byte", ">b"), "B": ("unsignedbyte", ">B"), "s": ("short", ">h"), "u": ("unsignedshort", ">H"),
        "I": ("signedint", ">i"), "i": ("unsignedint", ">I"), "l": ("long", ">q"), "L": ("long", ">q"),
    }  # fmt: skip
    for letter, (name, layout) in names.items():
        kind = type(f"Wire{name.capitalize()}", (WireInt,), {"wire_type": name, "__slots__": ()})
        widths[ord(letter)] = (kind, Struct(layout))
    return widths


_INTEGERS = _widths()
_FLOAT = Struct(">f")
_DOUBLE = Struct(">d")
_DECIMAL = Struct(">BI")


def plain(raw: bytes) -> dict[str, Any]:
    """A table's bytes, without the length before them, as a dictionary.

    Raises:
        TableError: the bytes are not a table.
    """
    return {name: field.value for name, field in fields(raw).items()}


def fields(raw: bytes) -> dict[str, Field]:
    """A table's bytes as its fields; of two with one name the first counts, as in RabbitMQ's lookup.

    Raises:
        TableError: the bytes are not a table.
    """
    found: dict[str, Field] = {}
    for name, start, end, value in _entries(raw, 0, len(raw), 0):
        if name not in found:
            found[name] = Field(value, raw[start:end])
    return found


def _entries(raw: bytes, position: int, end: int, depth: int) -> Iterable[tuple[str, int, int, Any]]:
    while position < end:
        name, position = _short_string(raw, position, end)
        start = position
        value, position = _value(raw, position, end, depth)
        yield name, start, position, value


def _short_string(raw: bytes, position: int, end: int) -> tuple[str, int]:
    stop = position + 1 + raw[position]
    if stop > end:
        raise TableError(f"a name at byte {position} ends after its table")
    return text(raw[position + 1 : stop]), stop


def text(data: bytes) -> str:
    """A short string's text; bytes that are no UTF-8 survive the way there and back."""
    return data.decode("utf-8", "surrogateescape")


def _value(raw: bytes, position: int, end: int, depth: int) -> tuple[Any, int]:
    if position >= end:
        raise TableError(f"a value is missing at byte {position}")
    kind = raw[position]
    position += 1
    try:
        width = _INTEGERS.get(kind)
        if width is not None:
            value, stop = width[0](width[1].unpack_from(raw, position)[0]), position + width[1].size
        else:
            value, stop = _READERS[kind](raw, position, depth)
    except KeyError:
        raise TableError(f"type octet {kind} at byte {position - 1} is none of AMQP's") from None
    except (StructError, OverflowError, OSError) as error:
        raise TableError(f"a value at byte {position} cannot be read: {error}") from None
    if stop > end:
        raise TableError(f"a value at byte {position} ends after its table")
    return value, stop


def _string(raw: bytes, position: int, _: int) -> tuple[str | bytes, int]:
    stop = position + 4 + _LONG.unpack_from(raw, position)[0]
    data = raw[position + 4 : stop]
    try:
        return data.decode(), stop
    except UnicodeDecodeError:
        return data, stop


def _binary(raw: bytes, position: int, _: int) -> tuple[bytearray, int]:
    stop = position + 4 + _LONG.unpack_from(raw, position)[0]
    return bytearray(raw[position + 4 : stop]), stop


def _boolean(raw: bytes, position: int, _: int) -> tuple[bool, int]:
    return raw[position : position + 1] != b"\0", position + 1


def _single(raw: bytes, position: int, _: int) -> tuple[float, int]:
    return WireFloat(_FLOAT.unpack_from(raw, position)[0]), position + 4


def _double(raw: bytes, position: int, _: int) -> tuple[float, int]:
    return _DOUBLE.unpack_from(raw, position)[0], position + 8


def _decimal(raw: bytes, position: int, _: int) -> tuple[Decimal, int]:
    scale, digits = _DECIMAL.unpack_from(raw, position)
    return Decimal(digits).scaleb(-scale), position + 5


def _timestamp(raw: bytes, position: int, _: int) -> tuple[datetime | int, int]:
    seconds = _LONGLONG.unpack_from(raw, position)[0]
    try:
        return datetime.fromtimestamp(seconds, UTC), position + 8
    except (
        ValueError,
        OverflowError,
        OSError,
    ):  # beyond the year 9999: still a value, and never one that matches
        return seconds, position + 8


def _void(_raw: bytes, position: int, _: int) -> tuple[None, int]:
    return None, position


def _nested(raw: bytes, position: int, depth: int) -> tuple[int, int]:
    if depth >= MAX_NESTING:
        raise TableError(f"more than {MAX_NESTING} tables inside one another")
    stop = position + 4 + _LONG.unpack_from(raw, position)[0]
    if stop > len(raw):
        raise TableError(f"a table at byte {position} ends after the one around it")
    return position + 4, stop


def _table(raw: bytes, position: int, depth: int) -> tuple[dict[str, Any], int]:
    start, stop = _nested(raw, position, depth)
    return {name: value for name, _, _, value in _entries(raw, start, stop, depth + 1)}, stop


def _array(raw: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    position, stop = _nested(raw, position, depth)
    values = []
    while position < stop:
        value, position = _value(raw, position, stop, depth + 1)
        values.append(value)
    return values, stop


_READERS: dict[int, Callable[[bytes, int, int], tuple[Any, int]]] = {
    ord("S"): _string,
    ord("x"): _binary,
    ord("t"): _boolean,
    ord("f"): _single,
    ord("d"): _double,
    ord("D"): _decimal,
    ord("T"): _timestamp,
    ord("V"): _void,
    ord("F"): _table,
    ord("A"): _array,
}


# what the broker itself writes into tables


def short_string(value: str) -> bytes:
    """Encode a short string; it has come from one, so it fits."""
    data = value.encode("utf-8", "surrogateescape")
    return bytes((len(data),)) + data


def long_string(value: str) -> bytes:
    """Encode a long string as a field's value."""
    data = value.encode("utf-8", "surrogateescape")
    return b"S" + _LONG.pack(len(data)) + data


def long_integer(value: int) -> bytes:
    """Encode a 64-bit integer as a field's value."""
    return b"l" + value.to_bytes(8, "big", signed=True)


def double(value: float) -> bytes:
    """Encode a number of 64 bits as a field's value."""
    return b"d" + _DOUBLE.pack(value)


def integer(value: int) -> bytes:
    """Encode a 32-bit integer as a field's value; of a larger one the lower bits, as RabbitMQ does."""
    return b"I" + _LONG.pack(value & 0xFFFFFFFF)


def timestamp(seconds: int) -> bytes:
    """Encode seconds since 1970 as a field's value."""
    return b"T" + _LONGLONG.pack(seconds)


def boolean(value: bool) -> bytes:
    """Encode a boolean as a field's value."""
    return b"t\x01" if value else b"t\x00"


def array(values: Iterable[bytes]) -> bytes:
    """Encode encoded values as an array."""
    data = b"".join(values)
    return b"A" + _LONG.pack(len(data)) + data


def table(entries: Iterable[tuple[str, bytes]]) -> bytes:
    """Encode names and encoded values as a table that is itself a value."""
    data = join(entries)
    return b"F" + _LONG.pack(len(data)) + data


def join(entries: Iterable[tuple[str, bytes]]) -> bytes:
    """A table's bytes, without the length before them."""
    return b"".join(short_string(name) + value for name, value in entries)
