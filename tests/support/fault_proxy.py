"""A proxy that commits the embedded broker's faults in front of any other broker, with the same state machine.

    with FaultProxy(rabbitmq_url, Faults(...)) as proxy:
        connect(proxy.url)

What depends on when the broker answers (a cut behind a frame of the client loses the answers that are under way) is
the same as with the embedded broker for a client that waits for each answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.wire import Address
from waybill.broker import Faults
from waybill.broker.faults import Injected
from waybill.broker.line import Line

FRAME_MAX = 131_072


class FaultProxy:
    """A port of this machine that leads to a broker, with faults on the way.

    Args:
        url: the broker's.
        faults: counted by connection from 1.

    Attributes:
        injected: the faults that have happened.
    """

    def __init__(self, url: str, faults: Faults) -> None:
        self._target = Address.of(url)
        self._url = urlsplit(url)
        self._faults = faults
        self._count = 0
        self.injected: list[Injected] = []
        self.sockets: set[asyncio.Transport] = set()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="fault-proxy", daemon=True)

    @property
    def url(self) -> str:
        """The broker's URL, through the proxy."""
        login = self._url.netloc.rpartition("@")[0]
        return self._url._replace(netloc=f"{login}@127.0.0.1:{self._port}").geturl()

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result()
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _start(self) -> asyncio.Server:
        return await self.loop.create_server(lambda: _Client(self), "127.0.0.1", 0)

    async def _stop(self) -> None:
        self._server.close()
        for transport in tuple(self.sockets):
            transport.abort()
        while self.sockets:
            await asyncio.sleep(0)

    def line(self) -> Line:
        """The next connection's."""
        self._count += 1
        return Line(self._faults.of_connection(self._count), self._count, self.injected, FRAME_MAX)

    async def connect(self, client: _Client) -> None:
        """Reach the broker for a client."""
        await self.loop.create_connection(lambda: _Upstream(client), self._target.host, self._target.port)


class _End(asyncio.Protocol):
    """One of the two sockets of a connection."""

    transport: asyncio.Transport
    proxy: FaultProxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "connections are streams"
        self.transport = transport
        self.proxy.sockets.add(transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it was lost changes nothing
        self.proxy.sockets.discard(self.transport)


class _Client(_End):
    """A client's socket, and its line."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.line = proxy.line()
        self.upstream: _Upstream | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = self.proxy.loop.create_task(self.proxy.connect(self))

    def data_received(self, data: bytes) -> None:
        self.line.take(data, self.proxy.loop.time())
        self.pump()

    def pump(self) -> None:
        """Pass on what may pass, and look again when there will be more."""
        loop, line, upstream = self.proxy.loop, self.line, self.upstream
        if upstream is None or self.transport.is_closing():
            return
        now = loop.time()
        while data := line.next(now):
            upstream.transport.write(data)
        if out := line.take_out(now):
            self.transport.write(out)
        if line.is_over:
            self._end()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if (when := line.next_time) is None else loop.call_at(when, self.pump)
        if line.is_reading != self.transport.is_reading():
            (self.transport.resume_reading if line.is_reading else self.transport.pause_reading)()

    def _end(self) -> None:
        if self.line.resets:
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        if self.upstream is not None:
            self.upstream.transport.close()


class _Upstream(_End):
    """The socket to the broker."""

    def __init__(self, client: _Client) -> None:
        self.proxy = client.proxy
        self.client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client.upstream = self
        self.client.pump()

    def data_received(self, data: bytes) -> None:
        self.client.line.answered(data, self.proxy.loop.time())
        self.client.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.client.line.is_silent:
            self.client.transport.close()
