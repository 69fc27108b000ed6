"""AMQP field tables as values: arguments of declarations and bindings, headers of messages.

Python's equality is too kind for AMQP: `1 == 1.0 == True` there, while RabbitMQ compares type and value
(`=:=` in rabbit_exchange_type_headers.erl). `field_key` therefore turns a field into a hashable key that is
equal exactly where RabbitMQ finds the fields equal:

| field               | key                           | because                                      |
|---------------------|-------------------------------|----------------------------------------------|
| text                | the text                      |                                              |
| bytes               | tagged                        | a type of their own in arrays and tables     |
| integer             | the integer                   | the broker forgets its width                 |
| boolean, float      | tagged                        | never equal to an integer                    |
| void                | tagged                        |                                              |
| decimal             | tagged, with its exponent     | 1.50 and 1.5 differ (some clients shorten)   |
| timestamp           | tagged, in whole seconds      | the wire carries seconds                     |
| array               | tagged, element by element    |                                              |
| table               | tagged, entries in wire order | inner tables are compared as lists, unsorted |
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Hashable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from time import struct_time
from typing import Any

from waybill.errors import InputError

VOID = ("void",)


class FieldTable(Mapping[str, Any]):
    """An immutable AMQP field table: equal and hashed by type and value, in any order of its entries.

    Raises:
        InputError: a name isn't text, or a value has no type in AMQP.
    """

    __slots__ = ("_fields", "_key")

    def __init__(self, fields: Mapping[str, Any] | None = None) -> None:
        self._fields: dict[str, Any] = dict(fields) if fields else {}
        self._key: frozenset[tuple[str, Hashable]] | None = None if self._fields else frozenset()
        if self._fields:
            self.key()

    def key(self) -> frozenset[tuple[str, Hashable]]:
        """The table as a set of (name, `field_key` of its value)."""
        if self._key is None:
            self._key = frozenset((_name(name), field_key(value)) for name, value in self._fields.items())
        return self._key

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        """As `dict.get`; the one that `Mapping` gives raises and catches inside."""
        return self._fields.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FieldTable):
            return self.key() == other.key()
        return isinstance(other, Mapping) and self.key() == FieldTable(other).key()

    def __hash__(self) -> int:
        return hash(self.key())

    def __repr__(self) -> str:
        return repr(self._fields)


EMPTY = FieldTable()


def as_table(fields: Mapping[str, Any] | None) -> FieldTable:
    """`fields` as a `FieldTable`; one that already is one is returned as it stands."""
    if isinstance(fields, FieldTable):
        return fields
    return FieldTable(fields) if fields else EMPTY


def field_key(value: Any) -> Hashable:
    """A key equal for two fields exactly when RabbitMQ finds them equal; see the table above."""
    kind = type(value)
    if kind is str or kind is int:
        return value  # type: ignore[no-any-return]
    if value is None:
        return VOID
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ("bytes", bytes(value))
    return _compound_key(value)


def _compound_key(value: Any) -> Hashable:
    if is_timestamp(value):
        return ("timestamp", seconds(value))
    if isinstance(value, Decimal):
        return ("decimal", *value.as_tuple())
    if isinstance(value, Mapping):
        return ("table", tuple((_name(name), field_key(inner)) for name, inner in value.items()))
    if isinstance(value, (list, tuple)):
        return ("array", tuple(field_key(inner) for inner in value))
    if isinstance(value, (str, int)):
        return field_key(str(value) if isinstance(value, str) else int(value))
    raise InputError(f"a {type(value).__name__} cannot stand in an AMQP table: {value!r}")


def is_timestamp(value: Any) -> bool:
    """Whether AMQP clients send `value` as a timestamp."""
    return isinstance(value, (datetime, struct_time))


def seconds(value: datetime | struct_time) -> int:
    """A timestamp as the wire carries it: whole seconds since 1970, a naive datetime taken as UTC."""
    if isinstance(value, struct_time):
        return timegm(value)
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


def _name(name: Any) -> str:
    if isinstance(name, str):
        return name
    raise InputError(f"the names in an AMQP table are text, got {name!r}")


def plain(value: Any) -> Any:
    """An AMQP field as JSON can hold it: bytes as text, timestamps and decimals as they are written."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def is_plain(value: Any) -> bool:
    """Whether JSON holds an AMQP field as it is: `plain` changes nothing, and there is a value."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return isinstance(value, (str, int, float))
