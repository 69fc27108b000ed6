"""How a connection begins: what the server says of itself, who may log in, what is agreed.

AMQP 0-9-1, section 2.2.4; RabbitMQ's texts and order of checks (rabbit_reader.erl).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import Enum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from struct import Struct

from waybill.broker import tables
from waybill.broker.frames import METHOD, frame
from waybill.broker.limits import MIN_FRAME_MAX


class State(Enum):
    """Where a connection stands."""

    AWAITING_HEADER = "awaiting header"
    STARTING = "starting"
    TUNING = "tuning"
    OPENING = "opening"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"


PROTOCOL = b"AMQP\x00\x00\x09\x01"
PROTOCOL_0_9 = b"AMQP\x01\x01\x00\x09"
"""The header of AMQP 0-9, whose clients get on well enough."""

PROTOCOL_1_0 = b"AMQP\x03\x01\x00\x00"
"""What RabbitMQ names to a client it does not understand; the embedded broker speaks only 0-9-1."""

MECHANISMS = b"PLAIN AMQPLAIN"

CAPABILITIES = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
)

BEHAVES_AS = "4.3.6"
"""The version of RabbitMQ that this broker is held against."""

_LONG = Struct(">I")


@cache  # the version is read from the installed package's files: far slower than all the rest of a handshake
def start_frame() -> bytes:
    """`connection.start`, the same for everyone.

    Clients look at `product` and `version` to decide what they may send. Both name the RabbitMQ that this broker
    behaves as, so that a program does the same here; `platform` names the code.
    """
    capabilities = tables.table((name, tables.boolean(True)) for name in CAPABILITIES)
    properties = tables.join(
        [
            ("capabilities", capabilities),
            ("information", tables.long_string("An embedded broker for one machine's tests and demos")),
            ("platform", tables.long_string(f"Waybill {_version()}, Python")),
            ("product", tables.long_string("RabbitMQ")),
            ("version", tables.long_string(BEHAVES_AS)),
        ]
    )
    parts = (
        b"\x00\x0a\x00\x0a\x00\x09",
        *(_LONG.pack(len(part)) + part for part in (properties, MECHANISMS, b"en_US")),
    )
    return frame(METHOD, 0, b"".join(parts))


def _version() -> str:
    try:
        return version("waybill")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


def refused_version(header: bytes) -> bytes:
    """What to answer to a protocol header that is not ours: the version to try instead."""
    if header[:6] == PROTOCOL[:6] and header[6] >= 9:
        return PROTOCOL
    return PROTOCOL_1_0


def user_of(mechanism: str, response: bytes, users: Mapping[str, str]) -> str | None:
    """Who logs in, or None where the name or the password is wrong.

    Raises:
        ValueError: the response has not the mechanism's form, or there is no such mechanism.
    """
    if mechanism == "PLAIN":
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise ValueError("PLAIN is: identity, name and password, a zero byte between them")
        name, password = parts[1], parts[2]
    elif mechanism == "AMQPLAIN":
        name, password = _amqplain(response)
    else:
        raise ValueError(f"no mechanism {mechanism}")
    known = users.get(name.decode("utf-8", "replace"))
    if known is None or not hmac.compare_digest(known.encode(), password):
        return None
    return name.decode()


def _amqplain(response: bytes) -> tuple[bytes, bytes]:
    try:
        found = tables.plain(response)
        name, password = found["LOGIN"], found["PASSWORD"]
    except (tables.TableError, IndexError, KeyError):
        raise ValueError("AMQPLAIN is a table with LOGIN and PASSWORD") from None
    if not isinstance(name, str) or not isinstance(password, str):
        raise ValueError("LOGIN and PASSWORD are long strings")
    return name.encode(), password.encode()


def tuning_problem(name: str, agreed: int, offered: int, least: int) -> str | None:
    """What is wrong with a value of `connection.tune-ok`, in RabbitMQ's words."""
    if offered and (agreed == 0 or agreed > offered):
        return f"negotiated {name} = {agreed} is higher than the maximum allowed value ({offered})"
    if agreed and agreed < least:
        return f"negotiated {name} = {agreed} is lower than the minimum allowed value ({least})"
    return None


LEAST = {"frame_max": MIN_FRAME_MAX, "channel_max": 1}
