"""A TCP line to a broker on which answers take their time."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 65536


@contextmanager
def slow_line(url: str, seconds: float) -> Iterator[str]:
    """The URL of a line to the broker at `url`, on which each of its answers comes so many seconds later."""
    target = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):  # the server is closed
                while True:
                    near, _ = server.accept()
                    far = socket.create_connection((target.hostname, target.port or 5672))
                    ends.extend((near, far))
                    threading.Thread(target=_pump, args=(near, far, 0.0), daemon=True).start()
                    threading.Thread(target=_pump, args=(far, near, seconds), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            port = server.getsockname()[1]
            yield url.replace(target.netloc.rpartition("@")[2], f"127.0.0.1:{port}", 1)
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()


def _pump(source: socket.socket, sink: socket.socket, seconds: float) -> None:
    """Hand on what comes, each part of it so much later: a long line, and not a narrow one."""
    parts: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def deliver() -> None:
        with suppress(OSError):
            while (part := parts.get())[1]:
                time.sleep(max(0.0, part[0] - time.monotonic()))  # the line's own slowness, not a wait for anything
                sink.sendall(part[1])
            sink.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=deliver, daemon=True).start()
    with suppress(OSError):
        while data := source.recv(CHUNK):
            parts.put((time.monotonic() + seconds, data))
    parts.put((0.0, b""))
