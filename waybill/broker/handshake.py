"""How a connection begins: from the protocol header to `connection.open`, without I/O.

    awaiting header → starting → tuning → opening → an `Agreement`

AMQP 0-9-1, section 2.2.4; RabbitMQ's texts and order of checks (rabbit_reader.erl). Whoever has not logged in is told
little: RabbitMQ silently closes such a connection, and not at once, unless the client has announced that it
understands a refused login.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from struct import Struct
from typing import Any

from pamqp import commands

from waybill.broker import methods, tables
from waybill.broker.frames import HEARTBEAT, METHOD, Frame, FrameReader, frame, unexpected_frame
from waybill.broker.limits import MIN_FRAME_MAX, Limits
from waybill.broker.methods import answer
from waybill.broker.output import Output
from waybill.errors import ProtocolRefusal
from waybill.topology.fields import EMPTY

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
"""The version of RabbitMQ that this broker is compared with."""

_LONG = Struct(">I")


class Step(Enum):
    """Where a handshake stands, in RabbitMQ's words."""

    AWAITING_HEADER = "awaiting header"
    STARTING = "starting"
    TUNING = "tuning"
    OPENING = "opening"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What client and broker have agreed on when the connection is open.

    Attributes:
        user: who logged in.
        mechanism: by which.
        properties: what the client says of itself.
        frame_max: bytes of a frame.
        heartbeat: seconds, 0 for none.
        is_told_of_cancels: the client understands a `basic.cancel` from the broker.
        is_told_of_blocks: it understands `connection.blocked`.
    """

    user: str = ""
    mechanism: str = ""
    properties: Mapping[str, Any] = EMPTY
    vhost: str = ""
    frame_max: int = 0
    channel_max: int = 0
    heartbeat: int = 0
    is_told_of_cancels: bool = False
    is_told_of_blocks: bool = False


class Ending(Enum):
    """How a connection ends that never was one."""

    OTHER_PROTOCOL = "the version to try is written: to be closed at once"
    DISTRUSTED = "no client, or one that guesses: to be closed silently, and not at once"


Outcome = Agreement | ProtocolRefusal | Ending

Barred = Callable[[str, str], str | None]


class Handshake:
    """One connection's handshake.

    Args:
        users: name → password.
        limits: what is offered.
        barred: user, vhost -> why the one may not open the other, None where it may.
        reader: cuts what comes into frames.
        output: takes the answers.
    """

    def __init__(
        self, users: Mapping[str, str], limits: Limits, barred: Barred, reader: FrameReader, output: Output
    ) -> None:
        self._users = users
        self._barred = barred
        self._limits = limits
        self._reader = reader
        self._output = output
        self._header = b""
        self._step = Step.AWAITING_HEADER
        self._agreed = Agreement()

    def receive(self, data: bytes) -> tuple[Outcome | None, list[Frame]]:
        """Take what the client sent.

        Returns:
            How the handshake ended, None while it goes on; and the frames that came behind its end.
        """
        if self._step is Step.AWAITING_HEADER:
            self._header += data
            if len(self._header) < len(PROTOCOL):
                return None, []
            header, data = self._header[: len(PROTOCOL)], self._header[len(PROTOCOL) :]
            if header not in (PROTOCOL, PROTOCOL_0_9):
                self._output.write(refused_version(header))
                return Ending.OTHER_PROTOCOL, []
            self._step = Step.STARTING
            self._output.write(start_frame())
        frames = self._reader.feed(data)
        for place, one in enumerate(frames):
            outcome = self._take(*one)
            if outcome is not None:
                return outcome, frames[place + 1 :]
        return None, []

    def _take(self, kind: int, number: int, payload: bytes) -> Outcome | None:
        if kind == HEARTBEAT and not number and not payload:
            return None
        try:
            if number or kind != METHOD or len(payload) < 4:
                raise unexpected_frame(kind, payload)
            index = methods.index_of(payload)
            step = _STEPS.get((self._step, index))
            if step is None:
                raise out_of_place(index, self._step.value)
            return step(self, methods.decode(payload))
        except ProtocolRefusal as refusal:
            return refusal if self._step is Step.OPENING else Ending.DISTRUSTED

    def _on_start_ok(self, method: Any) -> Outcome | None:
        """Who is there, and what the client understands."""
        given = method.client_properties.get("capabilities")
        capabilities: dict[str, Any] = given if isinstance(given, dict) else {}
        try:
            user = user_of(method.mechanism, method.response, self._users)
        except ValueError:
            return Ending.DISTRUSTED
        if user is None:
            if capabilities.get("authentication_failure_close") is not True:
                return Ending.DISTRUSTED
            how = f"using authentication mechanism {method.mechanism}. For details see the broker logfile."
            return ProtocolRefusal(403, f"Login was refused {how}")
        self._agreed = Agreement(
            user,
            method.mechanism,
            method.client_properties,
            is_told_of_cancels=capabilities.get("consumer_cancel_notify") is True,
            is_told_of_blocks=capabilities.get("connection.blocked") is True,
        )
        self._step = Step.TUNING
        limits = self._limits
        offer = {"channel_max": limits.channel_max, "frame_max": limits.frame_max, "heartbeat": limits.heartbeat}
        self._output.write_method(answer(commands.Connection.Tune, **offer), 0)
        return None

    def _on_tune_ok(self, method: Any) -> Outcome | None:
        """No more than was offered."""
        for name, least in (("frame_max", MIN_FRAME_MAX), ("channel_max", 1)):
            problem = tuning_problem(name, getattr(method, name), getattr(self._limits, name), least)
            if problem is not None:
                raise ProtocolRefusal(530, problem)
        self._agreed = replace(
            self._agreed, frame_max=method.frame_max, channel_max=method.channel_max, heartbeat=method.heartbeat
        )
        self._reader.limit = method.frame_max
        self._step = Step.OPENING
        return None

    def _on_open(self, method: Any) -> Outcome | None:
        refusal = self._barred(self._agreed.user, method.virtual_host)
        if refusal is not None:
            raise ProtocolRefusal(530, refusal)
        self._output.write_method(answer(commands.Connection.OpenOk), 0)
        return replace(self._agreed, vhost=method.virtual_host)


_STEPS: dict[tuple[Step, int], Callable[[Handshake, Any], Outcome | None]] = {
    (Step.STARTING, commands.Connection.StartOk.index): Handshake._on_start_ok,
    (Step.TUNING, commands.Connection.TuneOk.index): Handshake._on_tune_ok,
    (Step.OPENING, commands.Connection.Open.index): Handshake._on_open,
}


def out_of_place(index: int, state: str) -> ProtocolRefusal:
    """504 for a method that a connection does not take in this state."""
    return ProtocolRefusal(504, f"unexpected method in connection state {state}", index)


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
        methods.id_of(commands.Connection.Start) + b"\x00\x09",  # the version, and then long strings
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
    if not known or not hmac.compare_digest(known.encode(), password):
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
