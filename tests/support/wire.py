"""A bare AMQP client for tests: it sends exactly the frames it is told to and hides nothing that comes back.

It is built on pamqp and a blocking socket, and so shares no code with the embedded broker. The same client
drives the embedded broker and RabbitMQ, which is what makes their answers comparable.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from pamqp import base, body, commands, frame, header

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
ANSWER_SECONDS = 10.0
"""How long a test waits for an answer before it fails."""


class Closed(Exception):
    """The peer closed the socket."""


@dataclass(frozen=True)
class Arrived:
    """One method from the broker, with its content where it has one."""

    channel: int
    method: Any
    properties: commands.Basic.Properties | None = None
    body: bytes | None = None
    raw_header: bytes | None = None

    @property
    def name(self) -> str:
        """The method's name, as in `Basic.Deliver`."""
        return str(self.method.name)

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of its content."""
        assert self.properties is not None, f"{self.name} came without content"
        return self.properties.headers or {}


@dataclass
class Address:
    """Where a broker listens and how to log in."""

    host: str
    port: int
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"

    @classmethod
    def of(cls, url: str) -> Address:
        """Read an `amqp://` URL."""
        parts = urlsplit(url)
        vhost = unquote(parts.path[1:]) if len(parts.path) > 1 else "/"
        user = unquote(parts.username or "guest")
        password = unquote(parts.password or "guest")
        return cls(parts.hostname or "127.0.0.1", parts.port or 5672, user, password, vhost)


@dataclass
class Wire:
    """One socket to a broker.

    Args:
        url: an `amqp://` URL.
        login: whether to go through the handshake; without it the first byte is the test's.
        capabilities: what the client announces in its properties.
    """

    url: str
    login: bool = True
    capabilities: dict[str, bool] = field(
        default_factory=lambda: {
            "consumer_cancel_notify": True,
            "connection.blocked": True,
            "authentication_failure_close": True,
            "publisher_confirms": True,
            "basic.nack": True,
        }
    )
    heartbeat: int = 0
    frame_max: int = 131072
    channel_max: int = 2047

    def __post_init__(self) -> None:
        self.address = Address.of(self.url)
        self.socket = socket.create_connection((self.address.host, self.address.port), ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.waiting: deque[Arrived] = deque()
        self.partial: dict[int, tuple[Any, header.ContentHeader, bytes, bytes]] = {}
        if self.login:
            try:
                self.shake_hands()
            except BaseException:
                self.drop()
                raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def drop(self) -> None:
        """Close the socket without a word."""
        self.socket.close()

    # what goes out

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send(self, channel: int, *methods: base.Frame) -> None:
        """Send methods on a channel in one write."""
        self.send_bytes(b"".join(frame.marshal(method, channel) for method in methods))

    def publish(self, channel: int, method: commands.Basic.Publish, content: bytes, **properties: Any) -> None:
        """Send a method with content, the body cut to the negotiated frame size."""
        self.send_bytes(self.content_bytes(channel, method, content, **properties))

    def content_bytes(self, channel: int, method: base.Frame, content: bytes, **properties: Any) -> bytes:
        """The frames of a method with content."""
        head = header.ContentHeader(body_size=len(content), properties=commands.Basic.Properties(**properties))
        parts = [frame.marshal(method, channel), frame.marshal(head, channel)]
        room = (self.frame_max or 131072) - 8
        for start in range(0, len(content), room):
            parts.append(frame.marshal(body.ContentBody(content[start : start + room]), channel))
        return b"".join(parts)

    # what comes back

    def read_frame(self, seconds: float = ANSWER_SECONDS) -> tuple[int, int, bytes]:
        """The next frame as type, channel and payload.

        Raises:
            Closed: the peer has closed.
            TimeoutError: nothing whole came in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            if len(self.buffer) >= 7:
                kind, channel, size = struct.unpack_from(">BHI", self.buffer)
                if len(self.buffer) >= size + 8:
                    payload = self.buffer[7 : 7 + size]
                    assert self.buffer[7 + size] == 0xCE
                    self.buffer = self.buffer[size + 8 :]
                    return kind, channel, payload
            self._fill(deadline)

    def _fill(self, deadline: float) -> None:
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.socket.recv(262144)
        except ConnectionError as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed("end of stream")
        self.buffer += data

    def read_to_end(self, seconds: float = ANSWER_SECONDS) -> bytes:
        """Everything up to the moment the peer closes."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self._fill(deadline)
        except Closed:
            return self.buffer

    def next(self, seconds: float = ANSWER_SECONDS) -> Arrived:
        """The next method with its content; heartbeats are passed over."""
        if self.waiting:
            return self.waiting.popleft()
        return self._read_method(seconds)

    def _read_method(self, seconds: float) -> Arrived:
        while True:
            kind, channel, payload = self.read_frame(seconds)
            arrived = self._take(kind, channel, payload)
            if arrived is not None:
                return arrived

    def _take(self, kind: int, channel: int, payload: bytes) -> Arrived | None:
        if kind == 1:
            method = frame.unmarshal(struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce")[2]
            if isinstance(method, (commands.Basic.Deliver, commands.Basic.Return, commands.Basic.GetOk)):
                self.partial[channel] = (method, header.ContentHeader(), b"", b"")
                return None
            return Arrived(channel, method)
        if kind == 2:
            method, head, _, _ = self.partial[channel]
            head.unmarshal(payload)
            self.partial[channel] = (method, head, payload, b"")
        elif kind == 3:
            method, head, raw, content = self.partial[channel]
            self.partial[channel] = (method, head, raw, content + payload)
        else:
            return None
        method, head, raw, content = self.partial[channel]
        if len(content) < head.body_size:
            return None
        del self.partial[channel]
        return Arrived(channel, method, head.properties, content, raw)

    def expect(self, *kinds: type[base.Frame], seconds: float = ANSWER_SECONDS) -> Any:
        """The next arrival, which must be one of `kinds`; its method is returned."""
        arrived = self.next(seconds)
        assert isinstance(arrived.method, kinds), f"{describe(arrived)} instead of {[k.name for k in kinds]}"
        return arrived.method

    def call(self, channel: int, method: base.Frame, *, seconds: float = ANSWER_SECONDS) -> Arrived:
        """Send a method and return its answer; what else arrives first is kept for `next`."""
        self.send(channel, method)
        wanted = [*method.valid_responses, "Channel.Close", "Connection.Close"]
        return self.wait_for(*wanted, seconds=seconds)

    def wait_for(self, *names: str, seconds: float = ANSWER_SECONDS) -> Arrived:
        """The first arrival with one of these method names; others are kept for `next`."""
        for place, arrived in enumerate(self.waiting):
            if arrived.name in names:
                del self.waiting[place]
                return arrived
        while True:
            arrived = self._read_method(seconds)
            if arrived.name in names:
                return arrived
            self.waiting.append(arrived)

    def drain(self) -> Iterator[Arrived]:
        """What has been kept."""
        while self.waiting:
            yield self.waiting.popleft()

    # the handshake

    def shake_hands(self) -> None:
        """Log in, tune and open the vhost."""
        self.send_bytes(PROTOCOL_HEADER)
        self.expect(commands.Connection.Start)
        response = f"\0{self.address.user}\0{self.address.password}"
        properties: dict[str, Any] = {"product": "waybill tests", "capabilities": dict(self.capabilities)}
        self.send(0, commands.Connection.StartOk(properties, "PLAIN", response, "en_US"))
        self.expect(commands.Connection.Tune)
        self.send(
            0,
            commands.Connection.TuneOk(self.channel_max, self.frame_max, self.heartbeat),
            commands.Connection.Open(self.address.vhost),
        )
        self.expect(commands.Connection.OpenOk)

    def open_channel(self, number: int = 1) -> int:
        """Open a channel and return its number."""
        self.send(number, commands.Channel.Open())
        self.wait_for("Channel.OpenOk")
        return number


def describe(arrived: Arrived) -> str:
    """One line for a failed assertion."""
    fields = ", ".join(f"{name}={value!r}" for name, value in arrived.method)
    return f"{arrived.name}({fields})"
