"""Methods ↔ bytes.

The layouts of the rare methods are pamqp's (`pamqp.commands`, generated from the specification); they are read
here, and not by pamqp, because RabbitMQ keeps the widths of integers in tables, bounds nothing by regular
expressions and answers a short payload with 501. publish, deliver, ack and their kin are read and written by
hand in publisher.py and deliveries.py: one after another they are nearly all that a broker does.

pamqp also has the only list of ids. Those that are compared for every frame stand below as numbers; `id_of` gives the
bytes for what is written by hand.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any

from pamqp import base, commands

from waybill.broker.frames import END_BYTE, METHOD, erlang_binary, pack_head
from waybill.broker.tables import TableError, plain, short_string
from waybill.errors import ProtocolRefusal

_INDEX = Struct(">I")

PUBLISH = commands.Basic.Publish.index
ACK = commands.Basic.Ack.index
REJECT = commands.Basic.Reject.index
NACK = commands.Basic.Nack.index
CONTENT_METHODS = frozenset(
    kind.index for kind in (commands.Basic.Publish, commands.Basic.Return, commands.Basic.Deliver, commands.Basic.GetOk)
)
"""Those that a header and a body follow."""


class AccessRequest(base.Frame):
    """`access.request`, which pamqp no longer knows and old clients still send; its arguments are of no interest."""

    __slots__ = []
    index = 0x001E000A
    name = "Access.Request"


class AccessRequestOk(base.Frame):
    """The answer to it."""

    __slots__ = ["ticket"]
    _ticket = "short"
    index = 0x001E000B
    name = "Access.RequestOk"


CATALOGUE: dict[int, type[base.Frame]] = {**commands.INDEX_MAPPING, AccessRequest.index: AccessRequest}


def id_of(kind: type[base.Frame]) -> bytes:
    """How a method's payload begins: its class and method ids."""
    return _INDEX.pack(kind.index)


def index_of(payload: bytes) -> int:
    """The class and method ids of a method frame's payload as one number."""
    index: int = _INDEX.unpack_from(payload)[0]
    return index


def is_known(index: int) -> bool:
    """Whether AMQP 0-9-1 with RabbitMQ's extensions has such a method."""
    return index in CATALOGUE


def decode(payload: bytes) -> Any:
    """A method frame's payload as a pamqp method, its tables as dictionaries of Python values.

    Raises:
        ProtocolRefusal: 501 for bytes that the method's layout does not fit.
        KeyError: no such method.
    """
    index = index_of(payload)
    kind = CATALOGUE[index]
    method = kind.__new__(kind)
    if kind is AccessRequest:
        return method
    try:
        position = _arguments(method, payload)
    except (StructError, IndexError, TableError):
        position = -1
    if position != len(payload):
        raise undecodable(payload)
    return method


def _arguments(method: base.Frame, payload: bytes) -> int:
    position, bit = 4, 0
    for name in method.__slots__:
        kind = method.amqp_type(name)
        if kind == "bit":
            if bit % 8 == 0:
                octet = payload[position]
                position += 1
            setattr(method, name, bool(octet >> bit % 8 & 1))
            bit += 1
            continue
        bit = 0
        value, position = _argument(kind, payload, position)
        setattr(method, name, value)
    return position


_NUMBERS = {"octet": Struct(">B"), "short": Struct(">H"), "long": Struct(">I"), "longlong": Struct(">Q")}


def _argument(kind: str, payload: bytes, position: int) -> tuple[Any, int]:
    number = _NUMBERS.get(kind)
    if number is not None:
        return number.unpack_from(payload, position)[0], position + number.size
    if kind == "shortstr":
        start, stop = position + 1, position + 1 + payload[position]
    else:
        start = position + 4
        stop = start + _INDEX.unpack_from(payload, position)[0]
    if stop > len(payload):
        raise IndexError(f"{kind} at byte {position} ends after its frame")
    data = payload[start:stop]
    if kind == "table":
        return plain(data), stop
    return (_text(data) if kind == "shortstr" else data), stop


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProtocolRefusal(501, "Malformed UTF-8 in shortstr") from None


def undecodable(payload: bytes) -> ProtocolRefusal:
    """501 for a method whose arguments do not fit its layout."""
    return ProtocolRefusal(501, f"cannot decode {erlang_binary(payload[4:])}", index_of(payload))


def answer(kind: type[base.Frame], **arguments: Any) -> base.Frame:
    """A method to send: built past pamqp's checks of names, which are stricter than RabbitMQ."""
    method = kind.__new__(kind)
    for name in method.__slots__:
        setattr(method, name, arguments.get(name, ""))
    return method


def encode(method: base.Frame, channel: int) -> bytes:
    """A method as one frame."""
    parts, octet, bit = [_INDEX.pack(method.index)], 0, 0
    for name in method.__slots__:
        kind, value = method.amqp_type(name), getattr(method, name)
        if kind == "bit":
            octet |= bool(value) << bit
            bit += 1
            continue
        if bit:
            parts.append(bytes((octet,)))
            octet = bit = 0
        parts.append(_written(kind, value))
    if bit:
        parts.append(bytes((octet,)))
    payload = b"".join(parts)
    return pack_head(METHOD, channel, len(payload)) + payload + END_BYTE


def _written(kind: str, value: Any) -> bytes:
    number = _NUMBERS.get(kind)
    if number is not None:
        return number.pack(value)
    if kind == "shortstr":
        return short_string(value)
    data: bytes = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    return _INDEX.pack(len(data)) + data
