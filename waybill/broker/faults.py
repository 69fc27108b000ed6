"""Faults on purpose: which may be asked for, and on which connection each of them happens.

Plain values. What carries them out is the `Line` in line.py, which stands between one client and the broker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, Self

from waybill.broker.methods import CATALOGUE as METHOD_CLASSES
from waybill.errors import CHANNEL_REPLIES, REPLY_NAMES, InputError, UnknownName

Side = Literal["client", "broker"]
"""Who sends a frame."""

METHODS: dict[str, int] = {
    re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.name).lower(): index for index, kind in METHOD_CLASSES.items()
}
"""Every method by its name in the specification, as in `basic.publish` and `connection.start-ok`."""


@dataclass(frozen=True)
class Point:
    """A place in what one side sends on a connection.

    Args:
        side: who sends it.
        frame: 1 for the first frame. The protocol header and heartbeats are not counted. A range stands for one of
            its numbers, drawn with the seed.
        byte: how many bytes of that frame still pass; None for the whole frame, 0 for nothing of it. A frame with
            fewer bytes passes whole.
        of: a method (`basic.publish`): then `frame` counts these only, and `byte` those of the method and its content.
        connection: 1 for the first that the broker accepts with these faults, None for every connection.
    """

    side: Side
    frame: int | range = 1
    byte: int | range | None = None
    of: str | None = None
    connection: int | None = 1

    def __post_init__(self) -> None:
        _check_connection(self.connection)
        if self.side not in ("client", "broker"):
            raise InputError(f"side {self.side!r}: expected 'client' or 'broker'")
        _check_drawn("frame", self.frame, 1)
        if self.byte is not None:
            _check_drawn("byte", self.byte, 0)
        if self.of is not None:
            _check_method(self.of)

    def drawn(self, random: Random) -> Self:
        """The same with a number in place of each range."""
        byte = self.byte
        return replace(self, frame=_draw(self.frame, random), byte=None if byte is None else _draw(byte, random))


@dataclass(frozen=True)
class Cut(Point):
    """The connection ends behind this frame, or within it.

    What the client sent until there, the broker has taken, and it notices the end. What it answers to a client's frame
    that is the last, nobody is sent.

    Args:
        reset: the client gets a reset instead of the end of the stream. Bytes that it has not read yet may be lost.
    """

    reset: bool = False


@dataclass(frozen=True)
class HalfOpen(Point):
    """From here on the broker reads nothing and sends nothing, and the socket stays open.

    As after a cable was pulled: neither side is told. The broker drops the client when its heartbeats stay away, and
    never where none are agreed.
    """


@dataclass(frozen=True)
class SlowReader:
    """One side reads slowly; the other one's writes wait when the operating system's buffers are full.

    Args:
        bytes_per_second: from the first byte on.
        side: who reads.
    """

    bytes_per_second: int
    side: Side = "broker"
    connection: int | None = 1

    def __post_init__(self) -> None:
        _check_connection(self.connection)
        if self.bytes_per_second < 1:
            raise InputError(f"bytes_per_second {self.bytes_per_second}: expected 1 or more")


@dataclass(frozen=True)
class Confirms:
    """The confirms of some publications.

    Args:
        first: 1 for the first publication of the connection; one that is not confirmed counts, too.
        count: how many, None for all from there.
        connection: as for a cut.
    """

    first: int = 1
    count: int | None = 1
    connection: int | None = 1

    def __post_init__(self) -> None:
        _check_connection(self.connection)
        if self.first < 1 or (self.count is not None and self.count < 1):
            raise InputError(f"first {self.first}, count {self.count}: expected 1 or more")

    def __contains__(self, publication: int) -> bool:
        return publication >= self.first and (self.count is None or publication < self.first + self.count)


@dataclass(frozen=True)
class Withhold(Confirms):
    """These confirms are never sent. The messages are in their queues."""


@dataclass(frozen=True)
class Delay(Confirms):
    """These confirms are sent late. The messages are in their queues at once.

    Args:
        seconds: for each of them, from when it was due.
    """

    seconds: float = 0.1


@dataclass(frozen=True)
class Nack(Confirms):
    """These publications get `basic.nack`, where the channel confirms.

    Args:
        is_kept: the message is in its queues all the same. A nack only says that the broker promises nothing.
    """

    is_kept: bool = False


@dataclass(frozen=True)
class Refuse:
    """A method is refused: the channel or the connection is closed with a code, and what was asked is not done.

    Args:
        code: the reply code.
        method: by its name in the specification.
        nth: 1 for the first of these on the connection.
        text: what stands behind the code's name.
        closes: what is closed; by default what RabbitMQ closes with this code.
        connection: as for a cut.
    """

    code: int
    method: str = "basic.publish"
    nth: int = 1
    text: str = "refused on purpose"
    closes: Literal["channel", "connection"] | None = None
    connection: int | None = 1

    def __post_init__(self) -> None:
        _check_connection(self.connection)
        _check_method(self.method)
        if not 100 <= self.code <= 999:
            raise InputError(f"code {self.code}: expected three digits")
        if self.nth < 1:
            raise InputError(f"nth {self.nth}: expected 1 or more")

    @property
    def closes_connection(self) -> bool:
        """Whether the connection is closed, and not just the channel; on channel 0 it always is."""
        if self.method.startswith("connection."):
            return True
        return self.code not in CHANNEL_REPLIES if self.closes is None else self.closes == "connection"

    @property
    def reply_text(self) -> str:
        """The text as it goes over the wire."""
        return " - ".join(filter(None, (REPLY_NAMES.get(self.code), self.text)))


@dataclass(frozen=True)
class Block:
    """The client is told `connection.blocked` and is not read any more, as with RabbitMQ's alarms.

    Its heartbeats are not read either: after two of them the connection ends, which RabbitMQ's does not.

    Args:
        after: publications of the connection that are still taken.
        seconds: until `connection.unblocked`, None for no end.
        connection: as for a cut.
    """

    after: int = 1
    seconds: float | None = None
    connection: int | None = 1

    def __post_init__(self) -> None:
        _check_connection(self.connection)
        if self.after < 1:
            raise InputError(f"after {self.after}: expected 1 or more, a client that publishes nothing isn't blocked")


Fault = Cut | HalfOpen | SlowReader | Withhold | Delay | Nack | Refuse | Block


@dataclass(frozen=True)
class Injected:
    """A fault that has happened.

    Args:
        fault: which, with the numbers that were drawn.
        connection: 1 for the first that was accepted with these faults.
        frame: how many frames of the side that it happened to had come by then, this one included.
    """

    fault: Fault
    connection: int
    frame: int


@dataclass(frozen=True, init=False)
class Faults:
    """Faults that a `Broker` commits on purpose, so that a test can see what an application makes of them.

    Connections are counted as the broker accepts them, from 1. A fault happens on the first one, if it does not say
    otherwise (`connection=2`, or `connection=None` for every connection): a client that connects again is served. The
    same faults with the same seed happen at the same bytes.

    - `Faults.Cut(side, frame)`: the connection ends behind this frame, or within it (`byte`).
    - `Faults.HalfOpen(side, frame)`: from there on nothing is read and nothing is sent, and the socket stays open.
    - `Faults.SlowReader(bytes_per_second)`: the broker reads slowly, or the client (`side`).
    - `Faults.Withhold(first, count)`: the confirms of these publications are never sent.
    - `Faults.Delay(first, count, seconds=...)`: they are sent late.
    - `Faults.Nack(first, count)`: these publications get `basic.nack`.
    - `Faults.Refuse(code, method, nth)`: the channel or the connection is closed with this code.
    - `Faults.Block(after, seconds)`: `connection.blocked` after so many publications.

    docs/explanation/faults.md has what Celery, Kombu and pika do under each.

    Args:
        faults: what is to happen.
        seed: of what is drawn: a frame or a byte that is given as a range.

    Raises:
        InputError: what no frame, method or connection can be.

    Example:
        >>> from kombu import Connection
        >>> from waybill import Broker, Faults
        >>> lost_confirm = Faults.Cut("broker", 1, byte=0, of="basic.ack")
        >>> with Broker(faults=Faults(lost_confirm)) as broker:
        ...     options = {"confirm_publish": True}
        ...     with Connection(broker.url, transport_options=options) as connection:
        ...         sent = connection.SimpleQueue("letters").producer.publish("hello", retry=True)
        ...     with Connection(broker.url) as connection:
        ...         print(connection.SimpleQueue("letters").qsize(), "copies")
        2 copies
    """

    faults: tuple[Fault, ...]
    seed: int

    Cut = Cut
    HalfOpen = HalfOpen
    SlowReader = SlowReader
    Withhold = Withhold
    Delay = Delay
    Nack = Nack
    Refuse = Refuse
    Block = Block

    def __init__(self, *faults: Fault, seed: int = 0) -> None:
        object.__setattr__(self, "faults", faults)
        object.__setattr__(self, "seed", seed)

    def of_connection(self, number: int) -> tuple[Fault, ...]:
        """Those that happen on the nth connection, with a number in place of each range."""
        return tuple(self._drawn(number))

    def _drawn(self, number: int) -> Iterator[Fault]:
        for place, fault in enumerate(self.faults):
            if fault.connection in (None, number):
                # Of its own for each, so that one fault more changes nothing about the others.
                random = Random(f"{self.seed}/{place}/{number}")
                yield fault.drawn(random) if isinstance(fault, Cut | HalfOpen) else fault


def _draw(value: int | range, random: Random) -> int:
    return value if isinstance(value, int) else random.choice(value)


def _check_drawn(name: str, value: int | range, least: int) -> None:
    if isinstance(value, range) and not value:
        raise InputError(f"{name} {value}: the range is empty")
    if (value if isinstance(value, int) else min(value)) < least:
        raise InputError(f"{name} {value}: expected {least} or more")


def _check_connection(number: int | None) -> None:
    if number is not None and number < 1:
        raise InputError(f"connection {number}: expected 1 or more, or None for all")


def _check_method(name: str) -> None:
    if name not in METHODS:
        raise UnknownName("method", name, METHODS, "AMQP 0-9-1")
