"""What a starter and its zygote say to each other, over a Unix socket: JSON behind its length in four bytes.

starter → zygote   `Load`; `Start`, with the file descriptor that the worker's output goes to; `Forget`, `End`; `Close`
zygote → starter   `Started`, `Ended`

A worker that has ended stays a zombie until the starter says `Forget`: until then its pid, and the process group of
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
class Forget:
    """The starter has no more use for the pid of this worker."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """Stop this worker, which the starter has forgotten: warmly, and after so many seconds by force."""

    number: int
    grace: float


@dataclass(frozen=True, slots=True)
class Close:
    """End when the last worker that is being stopped has ended."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker runs.

    Attributes:
        difference: why it was started as a program and not as a fork; empty for a fork.
    """

    number: int
    pid: int
    difference: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has ended.

    Attributes:
        code: its exit code, or minus the number of the signal that ended it, as in `subprocess`.
    """

    number: int
    code: int


Request = Load | Start | Forget | End | Close
Report = Started | Ended
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Load, Start, Forget, End, Close, Started, Ended)}


def send(to: socket.socket, message: Request | Report, *descriptors: int) -> None:
    """Send a message.

    Raises:
        OSError: the other end is gone.
    """
    data = json.dumps([type(message).__name__, asdict(message)]).encode()
    if descriptors:
        socket.send_fds(to, [LENGTH.pack(len(data))], descriptors)
        to.sendall(data)
    else:
        to.sendall(LENGTH.pack(len(data)) + data)


def receive(source: socket.socket) -> tuple[Any, list[int]] | None:
    """The next message and the file descriptors that came with it; None when the other end is gone."""
    try:
        head, descriptors, _, _ = socket.recv_fds(source, LENGTH.size, 1)
        head += _exactly(source, LENGTH.size - len(head)) if head else b""
        if len(head) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack(head)
        data = _exactly(source, length)
    except ConnectionError:
        return None
    if len(data) < length:
        return None
    kind, fields = json.loads(data)
    return KINDS[kind](**fields), descriptors


def _exactly(source: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer at the end of the stream."""
    data = b""
    while len(data) < count and (more := source.recv(count - len(data))):
        data += more
    return data
