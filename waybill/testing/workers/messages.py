"""What a starter and its zygote say to each other, over a Unix socket: JSON behind its length in four bytes.

starter → zygote   `Load`; `Start`, with the file descriptor that the worker's output goes to; `Reap`, `End`; `Close`
zygote → starter   `Started`, `Ended`

A worker that has ended stays a zombie until the starter says `Reap`: until then its pid, and the process group of
that number, can be nobody else's.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import asdict, dataclass
from typing import Any

LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Load:
    """Load these modules, of libraries, once for all the workers that are started from now on.

    Attributes:
        own: the top-level names of the application's modules, which must not be loaded with them.
    """

    modules: tuple[str, ...]
    own: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """Start `python -m module arguments`.

    Attributes:
        number: what the starter calls this worker.
        directory: where it runs, as `sys.path[0]` too.
        environment: every variable that it gets.
    """

    number: int
    module: str
    arguments: tuple[str, ...]
    directory: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reap:
    """The starter has noted how this worker ended, and has no more use for its pid."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """Stop this worker, of which the starter wants to hear no more: warmly, and after so many seconds by force."""

    number: int
    grace: float


@dataclass(frozen=True, slots=True)
class Close:
    """End when the last worker that is being stopped has ended."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker runs.

    Attributes:
        no_fork_reason: why it was started as a program; empty for a fork.
    """

    number: int
    pid: int
    no_fork_reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has ended.

    Attributes:
        code: its exit code, or minus the number of the signal that ended it, as in `subprocess`.
    """

    number: int
    code: int


Request = Load | Start | Reap | End | Close
Report = Started | Ended
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Load, Start, Reap, End, Close, Started, Ended)}


def send(to: socket.socket, message: Request | Report, *descriptors: int) -> None:
    """Send a message.

    It is one system call, unless it is larger than the socket's buffer (some 200 kB): an exception that a signal raises
    comes before it or after it.

    Raises:
        OSError: the other end is gone.
    """
    data = json.dumps([type(message).__name__, asdict(message)]).encode()
    frame = LENGTH.pack(len(data)) + data
    sent = socket.send_fds(to, [frame], descriptors) if descriptors else to.send(frame)
    if sent < len(frame):
        to.sendall(frame[sent:])


def receive(source: socket.socket) -> tuple[Any, list[int]] | None:
    """Wait for the next message and the file descriptors that come with it; None when the other end is gone."""
    try:
        head, descriptors, _, _ = socket.recv_fds(source, LENGTH.size, 1)
        if len(head) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack(head)
        data = _exactly(source, length)
    except ConnectionError:
        return None
    return (_parsed(data), descriptors) if len(data) == length else None


def peek(source: socket.socket) -> tuple[Any, int] | None:
    """The next message, which stays in the socket, and its size for `skip`; None when the other end is gone.

    If a signal interrupts between `peek` and `skip`, the message is read again. It must have come whole, as what is
    smaller than the socket's buffer does.
    """
    try:
        head = source.recv(LENGTH.size, socket.MSG_PEEK)
        if len(head) < LENGTH.size:
            return None
        size = LENGTH.size + LENGTH.unpack(head)[0]
        frame = source.recv(size, socket.MSG_PEEK)
    except ConnectionError:
        return None
    return (_parsed(frame[LENGTH.size :]), size) if len(frame) == size else None


def skip(source: socket.socket, size: int) -> None:
    """Remove a peeked message from the socket."""
    source.recv(size)


def _parsed(data: bytes) -> Any:
    kind, fields = json.loads(data)
    return KINDS[kind](**fields)


def _exactly(source: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer at the end of the stream."""
    data = b""
    while len(data) < count and (more := source.recv(count - len(data))):
        data += more
    return data
