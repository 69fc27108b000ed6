"""What may stand at a management API's address and isn't one, or is a broken one: a server on loopback for each.

Every address has the password `SECRET`, which no output may show.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.support.programs import PATIENCE

SECRET = "hunter2-s3cret"
Answer = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Hostile:
    """A server that is not what it should be, and what the one line must say of it."""

    name: str
    answer: Answer
    said: str
    is_slow: bool = False


def whole(status: str, body: str = "{}", *headers: str) -> Answer:
    """A complete answer."""
    data = body.encode()
    # Closed after each answer, as `_serve` does: else the client may ask again where nobody listens any more.
    always = (f"Content-Length: {len(data)}", "Content-Type: application/json", "Connection: close")
    head = [f"HTTP/1.1 {status}", *always, *headers]
    return raw("\r\n".join([*head, "", ""]).encode() + data)


def raw(data: bytes) -> Answer:
    """These bytes, whatever they are, and the end."""
    return lambda client: client.sendall(data)


def silent(client: socket.socket) -> None:
    """No answer until the client gives up."""
    while client.recv(4096):
        pass


def dribbling(client: socket.socket) -> None:
    """Blanks one at a time, for ever: no single one is late."""
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.settimeout(0.02)
    while True:
        client.sendall(b"1\r\n \r\n")
        with suppress(TimeoutError):
            if not client.recv(1):
                return


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b'{"rabbitmq_version": "4.3'

HOSTILE = (
    Hostile("wrong password", whole("401 Unauthorized", '{"error": "not_authorised"}'), "with 401 Unauthorized"),
    Hostile("no rights", whole("403 Forbidden"), "with 403 Forbidden"),
    Hostile("broken", whole("500 Internal Server Error", "oops"), "with 500 Internal Server Error"),
    Hostile("nothing there", whole("404 Not Found"), "with 404 Not Found"),
    Hostile("elsewhere", whole("302 Found", "", f"Location: http://127.0.0.1:1/{SECRET}"), "with 302 Found"),
    Hostile("a web page", whole("200 OK", "<html>hello</html>"), "with something that is not JSON"),
    Hostile("deep", whole("200 OK", "[" * 100_000), "with something that is not JSON"),
    Hostile("no text", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe"), "with something that is not JSON"),
    Hostile("other JSON", whole("200 OK", '{"hello": "world"}'), "is not RabbitMQ"),
    Hostile("a list", whole("200 OK", "[]"), "is not RabbitMQ"),
    Hostile("null", whole("200 OK", "null"), "is not RabbitMQ"),
    Hostile("a number", whole("200 OK", "1"), "is not RabbitMQ"),
    Hostile("no version", whole("200 OK", f'{{"rabbitmq_version": "{SECRET}"}}'), "is not RabbitMQ"),
    Hostile("half", raw(HALF), "does not answer"),
    Hostile("no HTTP", raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "does not answer"),
    Hostile("closed", raw(b""), "does not answer"),
    Hostile("slow", silent, "does not answer", is_slow=True),
    Hostile("dribbling", dribbling, "does not answer", is_slow=True),
)


@contextmanager
def standing(answer: Answer) -> Iterator[str]:
    """The address of a server that answers every request so, as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(server, answer, ended), daemon=True)
        thread.start()
        try:
            yield f"http://guest:{SECRET}@127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            with suppress(OSError):
                socket.create_connection(server.getsockname(), PATIENCE).close()  # it waits for the next client
            thread.join(PATIENCE)


def _serve(server: socket.socket, answer: Answer, ended: threading.Event) -> None:
    while True:
        client, _ = server.accept()
        with client, suppress(OSError):
            if ended.is_set():
                return
            client.settimeout(PATIENCE)
            if _request(client):
                answer(client)


def _request(client: socket.socket) -> bytes:
    """The head of a request; a GET has no more."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(4096)
        if not piece:
            return b""
        head += piece
    return head
