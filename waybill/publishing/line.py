"""A connection of its own to RabbitMQ, with one channel in confirm mode: writes many messages at once, hears answers.

py-amqp opens the connection, encodes the messages and reads the frames. What the broker says of our channel is heard
here and not by py-amqp, whose `basic_publish_confirm` takes the first ack or nack that comes for that of its own
message. Declarations, and messages that aren't tasks, have a channel beside it: a refusal there costs ours nothing.

The order of calls: `publish` and `beside` as often as wanted, then `finish`, then `close`.
"""

from __future__ import annotations

import errno
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from amqp import spec
from amqp.exceptions import ChannelError
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps, loads
from kombu import Connection
from kombu.transport import pyamqp

from waybill.publishing.ledger import Item, Ledger

CHUNK = 64
"""Messages that are written together at most."""

CHUNK_BYTES = 64 * 1024
"""Bytes that are written together, or one message."""

PAUSE = 0.02
"""Seconds for which a message may wait for others to be written with, while more are being published."""

MAX_BYTES_IN_FLIGHT = 8 * 1024 * 1024
"""Bytes of messages without an answer, or one message: memory, and what the broker may return before we read again."""

TLS_TIMEOUT = 0.001
"""Seconds to look for an answer with TLS, which may have read it already: there the socket tells nothing."""

CLOSE_TIMEOUT = 5.0
"""Seconds to wait for the broker's goodbye, when all is known."""


class Line:
    """The connection, and what is known of it.

    Args:
        connection: Kombu's, connected; nobody else uses it.
        window: messages without an answer; `publish` waits while there are as many.
        timeout: seconds to wait with no answer at all.

    Attributes:
        broken: why nothing more is written; empty while all is well.
        blocked: why the broker takes no publications just now, in its words; empty while it does.
    """

    def __init__(self, connection: Connection, window: int, timeout: float) -> None:
        self.ledger = Ledger()
        self.broken = ""
        self.blocked = ""
        self._window = window
        self._room = max(1, min(CHUNK, window // 4))
        self._timeout = timeout
        self._connection = connection
        self._amqp = connection.connection
        self.number = -1  # of our channel
        self._is_closed = False  # our channel, by the broker
        self._ended = False  # the whole connection, by the broker
        self._written_at = 0.0
        self._pending_bytes = 0
        self._sink = _Sink()
        self._amqp.sock.settimeout(timeout)  # of what py-amqp waits for by itself: the answer to a declaration
        self._amqp.on_inbound_frame = frame_handler(self._amqp, self._hear)
        self._encode = frame_writer(self._amqp, self._sink)
        self._has_tls = bool(self._amqp.ssl)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._amqp.sock, selectors.EVENT_READ)
        self._channel: Any = self._amqp.channel()
        self.number = self._channel.channel_id
        self._channel.confirm_select()

    @property
    def amqp(self) -> Any:
        """py-amqp's connection, for a channel beside ours."""
        return self._amqp

    def encode(self, channel: int, message: Any, exchange: str, routing_key: str, mandatory: bool) -> bytes:
        """A publication on this channel, as it goes over the wire."""
        arguments = dumps("Bssbb", (0, exchange, routing_key, mandatory, False))
        self._encode(1, channel, spec.Basic.Publish, arguments, message)
        return self._sink.taken()

    def publish(self, frames: bytes, item: Item) -> None:
        """Publish a task's message, or say in the item why not. Waits while the window is full."""
        ledger = self.ledger
        if item.exchange in ledger.refusals:
            item.settle("refused", ledger.refusals[item.exchange])
            return
        if ledger.is_sure(item):
            self._take(frames, item)
            self._make_room()
            return
        # The first for its exchange, for example, goes alone.
        self._settle_all()
        if self.broken:
            item.settle("unsent", f"not written: {self.broken}")
            return
        ledger.take(frames, item)
        self._settle_all()

    def beside(self, frames: bytes, is_urgent: bool) -> None:
        """Write a message of the channel beside ours behind the tasks before it; no answer is waited for."""
        if not self.broken:
            self._take(frames, None)
            if is_urgent:
                self._flush()

    def finish(self, writes: bool = True) -> None:
        """Wait for all answers.

        Args:
            writes: write what waits for it; otherwise it's unsent.
        """
        if writes:
            self._settle_all()
            return
        self.ledger.drop("an exception ended the batch before")
        self._wait(lambda: not self.ledger.open)
        self.ledger.drop("skipped by the broker behind a refused message, and an exception ended the batch")

    def close(self) -> None:
        """End the connection; whatever it says to that, the outcomes are known."""
        self.ledger.lost(self.broken or "the batch was closed")
        self._selector.close()
        with suppress(Exception):
            if not self.broken and not self.blocked:  # a broker that has blocked us doesn't read our goodbye
                self._amqp.sock.settimeout(min(self._timeout, CLOSE_TIMEOUT))
                self._connection.release()
        with suppress(Exception):
            self._connection.collect()

    def fail(self, error: BaseException | str) -> None:
        """Give the connection up. What was written and isn't confirmed is unknown, the rest is unsent."""
        if self.broken:
            return
        if isinstance(error, TimeoutError) and error.errno is None:  # py-amqp waited for something by itself
            error = self._no_answer()
        self.broken = error if isinstance(error, str) else worded(error)
        self.ledger.lost(self.broken)
        with suppress(Exception):
            self._amqp.collect()  # closes the socket: a channel that timed out is never used again

    def _no_answer(self) -> str:
        why = f"; the broker had blocked the connection (connection.blocked): {self.blocked}" if self.blocked else ""
        return f"no answer within {self._timeout:g} seconds{why}"

    # how messages are written

    def _take(self, frames: bytes, item: Item | None) -> None:
        ledger = self.ledger
        ledger.take(frames, item)
        self._pending_bytes += len(frames)
        is_due = len(ledger.pending) >= CHUNK or self._pending_bytes >= CHUNK_BYTES
        if is_due or time.monotonic() - self._written_at >= PAUSE:
            self._flush()

    def _make_room(self) -> None:
        ledger = self.ledger
        if ledger.in_flight < self._window and ledger.bytes_in_flight < MAX_BYTES_IN_FLIGHT:
            return
        # For more than one at a time: the next ones are to be written together, too.
        while not self.broken and not self._has_room():
            self._flush()
            self._wait(lambda: bool(ledger.pending) or self._has_room())

    def _has_room(self) -> bool:
        ledger = self.ledger
        return ledger.in_flight <= self._window - self._room and ledger.bytes_in_flight < MAX_BYTES_IN_FLIGHT

    def _settle_all(self) -> None:
        ledger = self.ledger
        while not self.broken and (ledger.pending or ledger.open):
            self._flush()
            self._wait(lambda: bool(ledger.pending) or not ledger.open)

    def _flush(self) -> None:
        """Write all that waits for it, after reading what the broker has to say: it may have blocked us."""
        self._absorb()
        self._guard(self._follow)
        if self.blocked:
            self._wait(lambda: not self.blocked)
        if self.broken or not self.ledger.pending:
            return
        self._pending_bytes = 0
        try:
            data = self.ledger.write()
            with self._amqp.transport.having_timeout(self._timeout):
                self._amqp.transport.write(data)
        except Exception as error:
            self._absorb_rest()
            self.fail(error)
        except BaseException:
            self.fail("interrupted while it was writing")
            raise
        self._written_at = time.monotonic()

    # how answers are read

    def _wait(self, is_done: Callable[[], bool]) -> None:
        """Read until something is so, or nothing at all was heard for `timeout` seconds."""
        heard, deadline = self.ledger.heard, time.monotonic() + self._timeout
        while not self.broken and not is_done():
            now = time.monotonic()
            if self.ledger.heard != heard:
                heard, deadline = self.ledger.heard, now + self._timeout
            if now >= deadline:
                self.fail(self._no_answer())
                return
            self._read(deadline - now)

    def _absorb(self) -> None:
        """Read what is there already."""
        while not self.broken and self._is_readable():
            if not self._read(TLS_TIMEOUT if self._has_tls else self._timeout):
                if not self._has_tls:
                    self.fail(self._no_answer())  # a frame has begun, and its end doesn't come
                return

    def _is_readable(self) -> bool:
        return self._has_tls or bool(self._selector.select(0))

    def _absorb_rest(self) -> None:
        """Read what came before the connection broke: acks, and perhaps why."""
        with suppress(Exception):
            while self._is_readable():
                self._amqp.drain_events(timeout=TLS_TIMEOUT)

    def _read(self, timeout: float) -> bool:
        """Read one method of the broker's, and follow it; False if none came."""
        return self._guard(lambda: self._drain(timeout) and self._follow())

    def _drain(self, timeout: float) -> bool:
        try:
            self._amqp.drain_events(timeout=timeout)
        except ChannelError:
            # The channel beside ours, which py-amqp has opened again: a message that isn't a task was refused.
            if self._ended:
                raise
        except TimeoutError as error:
            if error.errno == errno.ETIMEDOUT:  # the connection's own, not ours
                raise ConnectionError("the broker doesn't answer (ETIMEDOUT)") from error
            return False
        return True

    def _follow(self) -> bool:
        """Open our channel again where the broker has closed it: perhaps while py-amqp waited for something else."""
        if self._is_closed:
            self._is_closed = False
            self._channel.send_method(spec.Channel.CloseOk)
            self._channel.collect()
            self._channel = self._amqp.channel(self.number)
            self._channel.confirm_select()
        return True

    def _guard(self, work: Callable[[], bool]) -> bool:
        """Do it; whatever py-amqp raises is the connection's end."""
        try:
            return not self.broken and work()
        except Exception as error:
            self.fail(error)
            return False
        except BaseException:
            self.fail("interrupted while it was reading")
            raise

    def _hear(self, channel: int, method: tuple[int, int], payload: Any, content: Any) -> Any:
        """One method of the broker's: of our channel, or of the connection, which py-amqp follows."""
        if channel == self.number and method in _OURS:
            arguments = loads(_OURS[method], payload, 4)[0]
            ledger = self.ledger
            if method == spec.Basic.Ack:
                ledger.acked(*arguments)
            elif method == spec.Basic.Nack:
                ledger.nacked(arguments[0], arguments[1])
            elif method == spec.Basic.Return:
                code, text, exchange, routing_key = arguments
                ledger.returned(code, text, exchange, routing_key, content.properties.get("correlation_id"))
            else:
                code, text, *at_fault = arguments
                self._is_closed = True
                ledger.closed(code, text, tuple(at_fault) == spec.Basic.Publish)
            return None
        if method == spec.Connection.Blocked:
            self.blocked = loads("s", payload, 4)[0][0] or "no reason given"
            self.ledger.heard += 1
        elif method == spec.Connection.Unblocked:
            self.blocked = ""
            self.ledger.heard += 1
        elif method == spec.Connection.Close:
            self._ended = True  # py-amqp raises some of its codes as errors of a channel
        return self._amqp.on_inbound_method(channel, method, payload, content)


_OURS = {spec.Basic.Ack: "Lb", spec.Basic.Nack: "Lbb", spec.Basic.Return: "Bsss", spec.Channel.Close: "BsBB"}
"""What is heard here of our channel, and its arguments as py-amqp writes their types."""


class Beside(pyamqp.Channel):
    """The channel beside ours, on which Kombu's producer declares; what it publishes is handed over.

    Args:
        hand_over: what is called with Kombu's message, the exchange and the routing key, and `mandatory`.
    """

    def __init__(self, line: Line, hand_over: Callable[[Any, str, str, bool], None]) -> None:
        super().__init__(line.amqp)
        self._hand_over = hand_over

    def basic_publish(
        self, msg: Any, exchange: str = "", routing_key: str = "", mandatory: bool = False, **_: Any
    ) -> None:
        self._hand_over(msg, exchange, routing_key, mandatory)


class _Sink:
    """Takes the place of a transport, for what is to be written later."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> None:
        self._parts.append(bytes(data))  # a view of py-amqp's buffer, which it uses again

    def taken(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def worded(error: BaseException) -> str:
    """An error of the connection, in a few words."""
    code, text = getattr(error, "reply_code", None), getattr(error, "reply_text", None)
    if code and text:
        return f"connection closed by the broker: {code} {text}"
    return f"connection lost: {error}" if str(error) else f"connection lost: {type(error).__name__}"
