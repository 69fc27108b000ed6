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
import json
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import quote

from waybill.broker import store
from waybill.broker.connection import Connection
from waybill.broker.faults import Faults, Injected
from waybill.broker.limits import DEFAULT_LIMITS, Limits
from waybill.broker.line import Line
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

RESTART_GRACE = 0.02
"""The same where the broker starts again, which the next test may do a hundred times."""


Keep = Literal["durable", "nothing"]
"""What a restart leaves."""


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
        faults: what it does wrong on purpose.
        file: what is durable is read from there at the start, where it exists, and written there at the end: durable
            exchanges, queues and bindings, and their persistent messages. Without one all is gone with the broker.

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
        faults: Faults | None = None,
        file: str | os.PathLike[str] | None = None,
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
        self._file = None if file is None else Path(file)
        self._is_loaded = False
        self._faults = faults
        self._faulty_connections = 0
        self._abandoned: set[_Socket] = set()
        self.injected: list[Injected] = []

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
            InputError: the file is not one that a broker has written.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._tick()
        self._load()
        if self._management is not None:
            self._management.listen()
        try:
            self._server = await loop.create_server(
                self._new_socket, self.host, self.port, reuse_address=True, backlog=512
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
        await self._accept_no_more(self._server)
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
        for one in self._abandoned:
            one.end()
        self._abandoned.clear()
        if self._timer is not None:
            self._timer.cancel()
        while self._sockets:
            await asyncio.sleep(0)
        self._server = None
        self._save()

    def _load(self) -> None:
        if self._file is None or self._is_loaded or not self._file.exists():
            return
        try:
            document = json.loads(self._file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{self._file}: {error}, expected what a waybill broker has saved") from None
        store.load(self.node, document, str(self._file))
        self._is_loaded = True

    def _save(self) -> None:
        if self._file is None:
            return
        self._is_loaded = True
        part = self._file.with_name(f"{self._file.name}.part")  # no half of it is ever read
        part.write_text(json.dumps(store.dump(self.node)), encoding="utf-8")
        part.replace(self._file)

    async def _accept_no_more(self, server: asyncio.Server) -> None:
        """Close the port, and have a connection for each client that was accepted by then.

        asyncio itself would fail to make one for want of a server, and leave the socket open.
        """
        assert self._loop is not None, "a server has a loop"
        with suppress(NotImplementedError):  # on Windows
            for listener in server.sockets:
                self._loop.remove_reader(listener.fileno())
        for _ in range(3):  # a task for each, its transport, its protocol
            await asyncio.sleep(0)
        server.close()

    def restart(self, *, keep: Keep = "durable", down: float = 0.0, is_crash: bool = False) -> None:
        """Stop and start again at the same port, in a `with` block.

        Args:
            keep: "durable" as RabbitMQ does: durable exchanges and queues with their bindings, and their persistent
                messages. "nothing": an empty broker, as after its disk was lost.
            down: seconds in which nobody can connect.
            is_crash: the connections break without a word. Otherwise clients are told 320.
        """
        assert self._loop is not None, "a broker that has not started cannot start again"
        restart = self.restart_on_loop(keep=keep, down=down, is_crash=is_crash)
        asyncio.run_coroutine_threadsafe(restart, self._loop).result()

    async def restart_on_loop(self, *, keep: Keep = "durable", down: float = 0.0, is_crash: bool = False) -> None:
        """Stop and start again as `restart` does, in an `async with` block."""
        if is_crash:
            for one in tuple(self._sockets.values()):
                one.transport.abort()
        await self.stop(RESTART_GRACE)
        self.node.restart(is_durable_kept=keep == "durable")
        await asyncio.sleep(down)
        await self.start()

    def inject(self, faults: Faults | None) -> None:
        """Commit these faults on the connections that come from now on, counted from 1; None for no more faults."""
        self._faulty_connections = 0
        self._faults = faults

    def _new_socket(self) -> _Socket:
        if self._faults is None:
            return _Socket(self)
        self._faulty_connections = number = self._faulty_connections + 1
        faults = self._faults.of_connection(number)
        if not faults:
            return _Socket(self)
        return _FaultySocket(self, Line(faults, number, self.injected, self.node.limits.frame_max))

    # between node and sockets

    def _tick(self) -> None:
        assert self._loop is not None, "a broker's sockets live on its loop"
        self.node.clock.now = self._loop.time()
        self.node.clock.wall = time.time()

    def now(self) -> float:
        """The clock's seconds, set anew."""
        self._tick()
        return self.node.clock.now

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

    def abandon(self, connection: Connection) -> None:
        """The broker has given up a client that hears nothing of it: the socket stays until the broker stops."""
        self._abandoned.add(self._sockets[connection])
        self.lost(connection)

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


class _FaultySocket(_Socket):
    """One accepted socket with faults on its line: the connection gets one frame at a time."""

    def __init__(self, broker: Broker, line: Line) -> None:
        super().__init__(broker)
        self._line = line
        self._now = 0.0
        self._is_going = False
        self._is_interrupted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and self._line.is_paced:  # else the operating system takes a megabyte before anybody waits
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def connection_lost(self, exc: Exception | None) -> None:
        self._broker.node.clock.forget(self._line)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._line.take(data, self._broker.now())
        self._go_on()

    def _go_on(self) -> None:
        """Hand the connection what may come; it answers with `flush` before the next frame does."""
        connection, line = self._connection, self._line
        if connection is None or self._is_going:
            return
        self._is_going = True
        # One time for all that has come at once: however long that takes, nothing falls due in the midst of it.
        now = self._now = self._broker.now()
        while not connection.has_more and not self.transport.is_closing():
            data = line.next(now)
            if not data:
                break
            self._broker.received(connection, data)
            self.flush()
        self._is_interrupted = connection.has_more  # read_or_wait goes on when it has taken its turns
        self._is_going = False
        self.flush()
        self._broker.flush()

    def flush(self) -> None:
        connection, line, transport = self._connection, self._line, self.transport
        if connection is None:
            return
        now = self._now if self._is_going else self._broker.now()
        line.answered(connection.take_out(), now)
        if not transport.is_closing() and (data := line.take_out(now)):
            transport.write(data)
        connection.sent(line.unread + transport.get_write_buffer_size())
        if line.is_over:
            self._cut()
        elif connection.is_finished and line.is_silent:
            self._connection = None
            self._broker.node.clock.forget(line)
            self._broker.abandon(connection)
        elif connection.is_finished and not line.unread:
            transport.close()
        else:
            self.read_or_wait()

    def _cut(self) -> None:
        if self._line.resets and (raw := self.transport.get_extra_info("socket")) is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.close()

    def read_or_wait(self) -> None:
        connection, line, clock = self._connection, self._line, self._broker.node.clock
        if connection is None or self.transport.is_closing():
            return
        if self._is_interrupted and not connection.has_more and not self._is_going:
            self._go_on()
            return
        clock.forget(line)
        if (when := line.next_time) is not None:
            clock.wake_at(line, when, self._go_on)
        if line.is_reading:
            super().read_or_wait()
        elif self._is_reading:
            self._is_reading = False
            self.transport.pause_reading()


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
