"""A TCP line to a broker that breaks after so many bytes, and remembers what went over it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

CHUNK = 65536

PROTOCOL_HEADER = 8
"""Bytes that a client sends before its first frame."""

FRAME_HEADER = 7
"""Bytes before a frame's payload; one more ends it."""

Side: TypeAlias = Literal["client", "broker"]
"""Whose bytes are counted: those that the client sends, or those that the broker sends."""


@dataclass
class Line:
    """A line, and what its first connection carried.

    Attributes:
        url: the broker's, by way of the line.
        passed: bytes of each side that came to the other.
        is_cut: the line is broken.
        is_silent: nobody learns of that: no byte comes through any more, and no end.
    """

    url: str
    passed: dict[Side, bytearray] = field(default_factory=lambda: {"client": bytearray(), "broker": bytearray()})
    is_cut: bool = False
    is_silent: bool = False

    def boundaries(self, side: Side) -> list[int]:
        """After how many bytes of this side a frame ended."""
        data = self.passed[side]
        place = PROTOCOL_HEADER if side == "client" else 0
        found = [place] if place else []
        while place + FRAME_HEADER <= len(data):
            place += FRAME_HEADER + int.from_bytes(data[place + 3 : place + FRAME_HEADER], "big") + 1
            found.append(place)
        return found


@contextmanager
def cut_line(url: str, side: Side = "client", after: int | None = None, is_silent: bool = False) -> Iterator[Line]:
    """A line to the broker at `url`, whose first connection breaks when one side has sent so many bytes.

    The other side gets exactly these bytes. Later connections are whole.

    Args:
        after: None: it doesn't break by itself.
        is_silent: nobody learns of it: no byte comes through any more, and no end.
    """
    target = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Line(url.replace(target.netloc.rpartition("@")[2], f"127.0.0.1:{server.getsockname()[1]}", 1))
        line.is_silent = is_silent
        ends: list[socket.socket] = []
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):  # the server is closed
                while True:
                    client, _ = server.accept()
                    broker = socket.create_connection((target.hostname, target.port or 5672))
                    is_first = not ends
                    ends.extend((client, broker))
                    for one, source, sink in (("client", client, broker), ("broker", broker, client)):
                        limit = after if is_first and one == side else None
                        passed = line.passed[one] if is_first else bytearray()  # type: ignore[index]
                        pump = threading.Thread(target=_pump, args=(line, source, sink, passed, limit))
                        threads.append(pump)
                        pump.start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield line
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for end in ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for end in ends:
                end.close()


def _pump(line: Line, source: socket.socket, sink: socket.socket, passed: bytearray, limit: int | None) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            if line.is_cut and line.is_silent:
                continue
            if limit is not None and len(passed) + len(data) >= limit:
                part = data[: limit - len(passed)]
                passed += part
                line.is_cut = True
                sink.sendall(part)
                if line.is_silent:
                    continue
                break
            passed += data
            sink.sendall(data)
    for end in (sink, source):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
