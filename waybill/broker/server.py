"""Sockets, timers and threads.

    with Broker() as broker:           # its own thread and loop; a free port; ready when the block is entered
        celery_app.conf.broker_url = broker.url

    async with Broker() as broker:     # on the running loop
        ...

All that is known of AMQP is in connection.py and below. One read is one call of `Connection.receive` and, for each
connection that it made something for, one write.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from waybill.broker.connection import Connection
from waybill.broker.limits import DEFAULT_LIMITS, Limits
from waybill.broker.management.call import Site
from waybill.broker.management.serving import Serving
from waybill.broker.node import Node, Users
from waybill.errors import BrokerUnavailable, InputError
from waybill.topology import DEFAULT_VHOST

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LOG = logging.getLogger(__name__)

T = TypeVar("T")

REPLY_BACKLOG = 16 * 1024 * 1024
"""Bytes of answers that a client may leave unread before the broker stops reading its requests."""

MAX_PORT = 65_535

SHUTDOWN = "broker forced connection closure with reason 'shutdown'"
"""RabbitMQ's sentence to every client when it stops."""


GRACE = 1.0
"""Seconds that clients have to answer when the broker stops."""

THREAD_GRACE = 0.05
"""The same where a `with` block ends: clients on the block's own thread cannot answer, and tests should not wait."""


class Broker:
    """An AMQP 0-9-1 broker in this process, in memory, for one machine's tests and demos.

    Args:
        host: where to listen. Anything but a loopback address needs users of its own, without `guest`.
        port: 0 for a free one.
        users: names and passwords; by default `guest` with `guest`, as in a fresh RabbitMQ.
        limits: what it allows.
        tracing: copies of all that is published and delivered go to the exchange `amq.rabbitmq.trace`, as RabbitMQ's
            firehose sends them.
        management: RabbitMQ's management API is there, too; it needs the extra `live`.
        management_port: of it, 0 for a free one.
        vhosts: those that there are; by default `/`, and each other one as soon as somebody opens it.

    Raises:
        InputError: `guest` on an address that other machines reach, an address that is none, or a management API
            without the extra.

    Example:
        >>> from kombu import Connection
        >>> from waybill import Broker
        >>> with Broker() as broker, Connection(broker.url) as connection:
        ...     queue = connection.SimpleQueue("letters")
        ...     queue.put("hello")
        ...     print(queue.get(timeout=5).payload)
        ...     queue.close()
        hello
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        users: Users | None = None,
        limits: Limits = DEFAULT_LIMITS,
        tracing: bool = False,
        management: bool = False,
        management_port: int = 0,
        vhosts: Iterable[str] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.node = Node(users, limits, is_traced=tracing, vhosts=vhosts)
        if not is_loopback(host) and "guest" in self.node.users:
            raise InputError(f"the user guest is for this machine only: to listen on {host}, name users of your own")
        for number in (port, management_port):
            if not 0 <= number <= MAX_PORT:
                raise InputError(f"port {number}: expected 1 to {MAX_PORT}, or 0 for a free one")
        self._management = Serving(host, management_port) if management else None
        self._started = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._sockets: dict[Connection, _Socket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._is_flush_due = False

    @property
    def url(self) -> str:
        """The address to connect to, with the first user's name and password: keep it out of logs."""
        vhost = next(iter(self.node.vhosts), DEFAULT_VHOST)
        # The vhost `/` in full: some clients read `//` as that, and others as the vhost without a name.
        return f"amqp://{self._credentials}@{_in_url(self.host)}:{self.port}/{quote(vhost, safe='')}"

    @property
    def management_url(self) -> str | None:
        """The management API's, with the first user's name and password; None where there is none."""
        if self._management is None:
            return None
        return f"http://{self._credentials}@{_in_url(self.host)}:{self._management.port}"

    @property
    def management_address(self) -> str | None:
        """The management API's address, without credentials; None where there is none."""
        return f"http://{_in_url(self.host)}:{self._management.port}/" if self._management is not None else None

    @property
    def _credentials(self) -> str:
        return ":".join(quote(part, safe="") for part in next(iter(self.node.users.items())))

    @property
    def address(self) -> str:
        """The address to connect to, without credentials."""
        return f"amqp://{_in_url(self.host)}:{self.port}/"

    # in a thread of its own

    def __enter__(self) -> Broker:
        loop = asyncio.new_event_loop()
        failure: list[BaseException] = []
        entered = threading.Event()

        def run() -> None:
            asyncio.set_event_loop(loop)
            try:
                loop.run_until_complete(self.start())
            except BaseException as error:
                failure.append(error)
                loop.close()
                return
            finally:
                entered.set()
            loop.run_forever()
            loop.close()

        self._thread = threading.Thread(target=run, name="waybill-broker", daemon=True)
        self._thread.start()
        entered.wait()
        if failure:
            raise failure[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self.stop(THREAD_GRACE), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    # on a running loop

    async def __aenter__(self) -> Broker:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen.

        Raises:
            BrokerUnavailable: the address cannot be had.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._tick()
        if self._management is not None:
            self._management.listen()
        try:
            self._server = await loop.create_server(
                lambda: _Socket(self), self.host, self.port, reuse_address=True, backlog=512
            )
        except OSError as error:
            if self._management is not None:
                await self._management.stop()
            reason = error.strerror or error
            raise BrokerUnavailable(f"cannot listen on {self.host}:{self.port}: {reason}") from None
        self.port = self._server.sockets[0].getsockname()[1]
        self._started = time.time()
        if self._management is not None:
            self._management.start(self._management_api)

    def _management_api(self) -> ASGIApp:
        from waybill.broker.management.application import Application  # when it is asked for: it loads starlette

        port = self._management.port if self._management is not None else 0
        return Application(Site(self.node, self.host, self.port, port, self._started), self._do)

    async def stop(self, grace: float = GRACE) -> None:
        """Close every connection with 320 and stop listening; the port is free at once.

        Args:
            grace: seconds that clients have to answer.
        """
        if self._server is None:
            return
        self._server.close()
        if self._management is not None:
            await self._management.stop()
        self._tick()
        for connection in tuple(self.node.connections):
            connection.force(SHUTDOWN)
        self.flush()
        closing = [one.is_closed for one in self._sockets.values()]
        if closing:
            await asyncio.wait(closing, timeout=grace)
        for one in tuple(self._sockets.values()):
            one.end()
        if self._timer is not None:
            self._timer.cancel()
        while self._sockets:
            await asyncio.sleep(0)
        self._server = None

    # between node and sockets

    def _tick(self) -> None:
        assert self._loop is not None, "a broker's sockets live on its loop"
        self.node.clock.now = self._loop.time()
        self.node.clock.wall = time.time()

    def received(self, connection: Connection, data: bytes) -> None:
        """A socket has given bytes."""
        self._turn(connection, lambda: connection.receive(data))

    def _go_on(self, connection: Connection) -> None:
        if connection in self._sockets:
            self._turn(connection, connection.go_on)

    def _turn(self, connection: Connection, take: Callable[[], None]) -> None:
        """Let a connection do its work, or a slice of it: then all others have their turn."""
        self._tick()
        try:
            take()
        except Exception:
            LOG.exception("a client has met a fault of the embedded broker; its connection is closed with 541")
            connection.fail()
        if connection.has_more and self._loop is not None:
            self._loop.call_soon(self._go_on, connection)
        self.flush()
        if (one := self._sockets.get(connection)) is not None:
            one.read_or_wait()

    def _do(self, act: Callable[[], T]) -> T:
        """Have something done to the node between the connections' turns."""
        self._tick()
        try:
            return act()
        finally:
            self.flush()
            for one in tuple(self._sockets.values()):
                one.read_or_wait()

    def flush(self) -> None:
        """Write what there is to write, once for each connection, and set the timer."""
        node = self.node
        node.check_alarm()
        for connection in node.take_dirty():
            one = self._sockets.get(connection)
            if one is not None:
                one.flush()
        if node.dirty and not self._is_flush_due and self._loop is not None:
            self._is_flush_due = True  # woken consumers have more: after the others' turn
            self._loop.call_soon(self._flush_again)
        self._arm()

    def _flush_again(self) -> None:
        self._is_flush_due = False
        self.flush()

    def _arm(self) -> None:
        when = self.node.clock.next_time()
        timer = self._timer
        if timer is not None and not timer.cancelled():
            if when is not None and timer.when() <= when:
                return
            timer.cancel()
        if when is None or self._loop is None:
            self._timer = None
        else:
            self._timer = self._loop.call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._tick()
        try:
            self.node.clock.on_time()
        except Exception:
            LOG.exception("a timer has met a fault of the embedded broker; the others go on")
        self.flush()

    def opened(self, one: _Socket) -> Connection | None:
        """A socket is there; None where there are too many."""
        if len(self._sockets) >= self.node.limits.connections:
            return None
        self._tick()
        connection = Connection(self.node)
        connection.name = one.name
        self._sockets[connection] = one
        self._arm()
        return connection

    def lost(self, connection: Connection) -> None:
        """A socket is gone."""
        self._tick()
        self._sockets.pop(connection, None)
        connection.lost()
        self.flush()


class _Socket(asyncio.Protocol):
    """One accepted socket."""

    transport: asyncio.Transport

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._connection: Connection | None = None
        self._is_reading = True
        self.is_closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "create_server gives streams"
        self.transport = transport
        transport.set_write_buffer_limits(high=0)  # be told when all is written: then a slow reader gets more
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = self._broker.opened(self)
        if self._connection is None:
            transport.abort()

    @property
    def name(self) -> str:
        """As RabbitMQ names a connection."""
        ends = (self.transport.get_extra_info(which) for which in ("peername", "sockname"))
        return " -> ".join(f"{_in_url(end[0])}:{end[1]}" if end else "?" for end in ends)

    def data_received(self, data: bytes) -> None:
        if self._connection is not None:
            self._broker.received(self._connection, data)

    def flush(self) -> None:
        """Write what the connection has to say, and stop or start reading as it wants."""
        connection, transport = self._connection, self.transport
        if connection is None:
            return
        if not transport.is_closing() and (data := connection.take_out()):
            transport.write(data)
        waiting = transport.get_write_buffer_size()
        connection.sent(waiting)
        if connection.is_finished:
            transport.close()
            return
        self.read_or_wait()

    def read_or_wait(self) -> None:
        """Read from the client, unless it has to wait."""
        connection, transport = self._connection, self.transport
        if connection is None or transport.is_closing():
            return
        waiting = transport.get_write_buffer_size()
        is_reading = not connection.is_blocked and not connection.has_more and waiting < REPLY_BACKLOG
        if is_reading is not self._is_reading:
            self._is_reading = is_reading
            (transport.resume_reading if is_reading else transport.pause_reading)()

    def end(self) -> None:
        """Close at once, whatever the client still has to say; what it never read is dropped."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def resume_writing(self) -> None:
        self.flush()
        self._broker.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it was lost changes nothing
        if self._connection is not None:
            self._broker.lost(self._connection)
        self.is_closed.set_result(None)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
