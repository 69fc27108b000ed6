"""The socket of an ASGI application, on a loop that has other work: the management API's on the broker's.

The socket listens from the start, and what serves it is loaded when the first client has connected: a broker that
nobody asks pays nothing for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from waybill.errors import BrokerUnavailable, InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server


def is_installed() -> bool:
    """Whether what it needs is there: the extra `live`."""
    return all(find_spec(name) is not None for name in ("starlette", "uvicorn"))


class Serving:
    """One socket of an application.

    Args:
        port: 0 for a free one.

    Raises:
        InputError: the extra isn't installed.

    Attributes:
        port: that on which it listens.
    """

    def __init__(self, host: str, port: int) -> None:
        if not is_installed():
            raise InputError("an HTTP server needs `pip install waybill[live]`")
        self._host = host
        self.port = port
        self._socket: socket.socket | None = None
        self._server: Server | None = None
        self._loading: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Take the port.

        Raises:
            BrokerUnavailable: it cannot be had.
        """
        try:
            self._socket = socket.create_server((self._host, self.port), family=_family(self._host), backlog=128)
        except OSError as error:
            raise BrokerUnavailable(f"cannot listen on {self._host}:{self.port}: {error.strerror or error}") from None
        self._socket.setblocking(False)
        self._server = self._loading = None  # of a former time
        self.port = self._socket.getsockname()[1]

    def start(self, load: Callable[[], ASGIApp]) -> None:
        """Be ready for the first client.

        Args:
            load: makes the application; called in another thread, since it imports much.
        """
        loop, listening = asyncio.get_running_loop(), self._listening

        def wake() -> None:
            loop.remove_reader(listening)
            self._loading = loop.create_task(self._serve(load))

        loop.add_reader(listening, wake)

    @property
    def _listening(self) -> socket.socket:
        assert self._socket is not None, "it listens first"
        return self._socket

    async def _serve(self, load: Callable[[], ASGIApp]) -> None:
        server = await asyncio.get_running_loop().run_in_executor(None, lambda: _server(load()))
        await server.startup(sockets=[self._listening])
        self._server = server

    async def stop(self) -> None:
        """Close the socket and what is open."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._loading is not None:
            await self._loading
        if self._server is not None:
            self._server.force_exit = True
            await self._server.shutdown(sockets=[self._socket])
        self._socket.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _server(application: ASGIApp) -> Server:
    """A server that has loaded what it needs and doesn't listen yet."""
    from uvicorn import Config, Server

    config = Config(application, log_config=None, lifespan="off", access_log=False, ws="none")
    config.load()
    server = Server(config)
    server.lifespan = config.lifespan_class(config)
    return server
