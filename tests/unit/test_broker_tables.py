"""Field tables: widths, bounds, and what is not a table."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from struct import pack

import pytest
from pamqp import encode
from pamqp.common import FieldTable

from waybill.broker import tables
from waybill.broker.limits import MAX_NESTING
from waybill.topology.queue_arguments import type_name


def nested(levels: int) -> bytes:
    """A table so many levels deep."""
    data = b""
    for _ in range(levels):
        data = b"\x01aF" + pack(">I", len(data)) + data
    return data


@pytest.mark.parametrize(
    ("raw", "value", "name"),
    [
        (b"b\xff", -1, "byte"),
        (b"B\xff", 255, "unsignedbyte"),
        (b"s\xff\xfe", -2, "short"),
        (b"u\xff\xfe", 65534, "unsignedshort"),
        (b"I\x00\x00\x00\x05", 5, "signedint"),
        (b"i\x80\x00\x00\x00", 2**31, "unsignedint"),
        (b"l\x00\x00\x00\x00\x00\x00\x00\x05", 5, "long"),
        (b"L\x00\x00\x00\x00\x00\x00\x00\x05", 5, "long"),
        (b"f\x3f\x80\x00\x00", 1.0, "float"),
        (b"d\x3f\xf0\x00\x00\x00\x00\x00\x00", 1.0, "double"),
        (b"t\x01", True, "bool"),
        (b"S\x00\x00\x00\x01a", "a", "longstr"),
        (b"S\x00\x00\x00\x01\xff", b"\xff", "binary"),
        (b"x\x00\x00\x00\x01a", bytearray(b"a"), "binary"),
        (b"V", None, "void"),
        (b"D\x02\x00\x00\x00\x96", Decimal("1.50"), "decimal"),
        (b"T\x00\x00\x00\x00\x00\x00\x00\x01", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), "timestamp"),
        (b"F\x00\x00\x00\x04\x01at\x00", {"a": False}, "table"),
        (b"A\x00\x00\x00\x03Vt\x01", [None, True], "array"),
    ],
)
def test_values_keep_their_type(raw: bytes, value: object, name: str) -> None:
    field = tables.fields(b"\x01k" + raw)["k"]
    assert field.value == value
    assert field.raw == raw
    assert type_name(field.value) == name


def test_reads_what_pamqp_writes() -> None:
    given: FieldTable = {"a": 1, "b": 2**40, "c": "text", "d": True, "e": None, "f": [1, "x"], "g": {"h": 1.5}}
    assert tables.plain(encode.field_table(given)[4:]) == given


def test_nesting_is_bounded() -> None:
    assert tables.plain(nested(MAX_NESTING))
    with pytest.raises(tables.TableError, match="inside one another"):
        tables.plain(nested(MAX_NESTING + 1))
    with pytest.raises(tables.TableError):
        tables.plain(nested(10_000))  # 70 KB, where recursion without a bound ends in RecursionError


@pytest.mark.parametrize(
    "raw",
    [
        b"\x01aZ",
        b"\x05a",
        b"\x01aS\x00\x00\x00\x05ab",
        b"\x01aI\x00",
        b"\x01a",
        b"\x01aF\x00\x00\x00\x05\x01bt\x00",
        b"\x01aA\x00\x00\x00\x01Z",
        b"\x01aT\x00",
    ],
)
def test_what_is_no_table_is_refused(raw: bytes) -> None:
    with pytest.raises((tables.TableError, IndexError)):
        tables.plain(raw)


def test_the_first_of_two_equal_names_counts() -> None:
    assert tables.plain(b"\x01at\x01\x01at\x00") == {"a": True}
