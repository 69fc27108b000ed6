"""The producer that Celery publishes through in a batch, over a connection of its own.

Celery's own code runs and hands its result to `Producer.publish`, as ever. What is ours begins there: a task's message
becomes an item of the batch, anything else (the event `task-sent`, a broadcast) is sent without an outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from amqp.exceptions import AMQPError, ChannelError
from celery import Celery
from kombu import Connection, Producer
from kombu.transport import pyamqp

from waybill.celery_app.broker_url import broker_of, masked, url_of
from waybill.errors import BrokerUnavailable
from waybill.publishing.ledger import Item, is_odd
from waybill.publishing.line import Beside, Line
from waybill.publishing.outcome import REFUSED, UNKNOWN, UNSENT

LOGGER = logging.getLogger("waybill.publishing")

Call = tuple[Any, dict[str, Any]]
"""What Celery tells its producer: the body, and the options of `Producer.publish`."""


class Session(Protocol):
    """One connection of a batch, from its opening to its end."""

    producer: Producer

    def publish(self, item: Item) -> None:
        """Publish an item's message, and note in it what becomes of that."""

    def finish(self, writes: bool = True) -> None:
        """Wait for all answers; without `writes`, what isn't written is unsent."""

    def close(self) -> None:
        """End the connection."""


def open_session(app: Celery, window: int, timeout: float, note: Callable[[Call], Item]) -> Session:
    """Connect to the application's broker.

    Args:
        note: called with a task's message before it's published: the item for it.

    Raises:
        BrokerUnavailable: nothing answers there, or it refuses us.
        InputError: the broker's URL can't be used.
    """
    # Each publication waits for its own confirm with `confirm_publish`.
    connection = broker_of(app, transport_options={"confirm_publish": False})
    connection.heartbeat = 0  # nobody would send them while the caller is busy
    try:
        connection.ensure_connection(max_retries=max(1, len(connection.alt)), interval_start=0, timeout=timeout)
    except Exception as error:
        raise BrokerUnavailable(f"no connection to {masked(url_of(app))}: {str(error).rstrip('.')}") from error
    try:
        if isinstance(connection.transport, pyamqp.Transport):
            return _ConfirmedSession(app, connection, window, timeout, note)
        return _PlainSession(connection, note)
    except (OSError, AMQPError) as error:
        connection.collect()
        raise BrokerUnavailable(f"no channel at {masked(url_of(app))}: {error}") from error


def is_task(call: Call) -> bool:
    """Whether a message is that of a task, in either of Celery's protocols."""
    body, options = call
    headers = options.get("headers") or {}
    return ("task" in headers and "id" in headers) or (isinstance(body, dict) and "task" in body and "id" in body)


class _NotPublished(Exception):
    """The item says why not."""


class _Producer(Producer):
    """Kombu's producer. What it's told to publish goes to the session, which may tell it to `send` that."""

    def __init__(self, connection: Connection, channel: Any, hand_over: Callable[[Call], None]) -> None:
        super().__init__(channel, auto_declare=False)
        self.__connection__ = connection  # Celery asks for it, also when it's lost
        self._hand_over = hand_over

    def publish(self, body: Any, routing_key: str | None = None, **options: Any) -> None:
        self._hand_over((body, {"routing_key": routing_key, **options}))

    def send(self, call: Call, **ours: Any) -> None:
        """Encode the message and hand it to the channel, as Kombu does; what it needs is declared before."""
        body, options = call
        super().publish(body, **{**options, **ours})


class _ConfirmedProducer(_Producer):
    """Declarations are made on the channel of the producer; one that fails is the message's outcome."""

    def __init__(self, session: _ConfirmedSession, connection: Connection, channel: Any) -> None:
        super().__init__(connection, channel, session.told)
        self._session = session

    def maybe_declare(self, entity: Any, retry: bool = False, **_: Any) -> Any:  # noqa: ARG002 - no retry here
        try:
            return super().maybe_declare(entity)
        except BaseException as error:
            self._session.not_declared(error)
            if isinstance(error, Exception):
                raise _NotPublished from error
            raise


class _ConfirmedSession:
    """Over AMQP: an outcome for each task."""

    def __init__(
        self, app: Celery, connection: Connection, window: int, timeout: float, note: Callable[[Call], Item]
    ) -> None:
        self.item: Item | None = None  # whose message is being made
        self._note = note
        self._events = app.conf.event_exchange
        self.line = Line(connection, window, timeout)
        self._beside = Beside(self.line, self._encoded)
        self._beside.open()
        self.producer: Producer = _ConfirmedProducer(self, connection, self._beside)

    def told(self, call: Call) -> None:
        """Celery's producer was told to publish something."""
        if is_task(call):
            self.publish(self._note(call))
        elif not self.line.broken:
            self._send(None, call)

    def publish(self, item: Item) -> None:
        item.begin()
        if self.line.broken:
            item.settle(UNSENT, f"not written: {self.line.broken}")
        elif item.call is not None:
            self._send(item, item.call, mandatory=True)

    def _send(self, item: Item | None, call: Call, **ours: Any) -> None:
        self.item = item
        try:
            self.producer.send(call, retry=False, **ours)
        except _NotPublished:
            pass
        except Exception as error:  # the caller gets it, from apply_async
            if item is not None and not item.is_settled:
                item.settle(UNSENT, f"not written: {type(error).__name__}: {error}")
                item.call = None
            raise
        finally:
            self.item = None

    def not_declared(self, error: BaseException) -> None:
        """A declaration failed that the message needs."""
        if isinstance(error, ChannelError):
            outcome = REFUSED, f"not written: its declaration was refused: {error.reply_code} {error.reply_text}"
        else:
            self.line.fail(error)
            outcome = UNSENT, f"not written: {self.line.broken}"
        if self.item is not None:
            self.item.settle(*outcome)

    def _encoded(self, message: Any, exchange: str, routing_key: str, mandatory: bool) -> None:
        item, line = self.item, self.line
        if item is None:
            frames = line.encode(self._beside.channel_id, message, exchange, routing_key, mandatory)
            line.beside(frames, is_urgent=exchange != self._events)
            return
        item.frames = line.encode(line.number, message, exchange, routing_key, mandatory)
        item.exchange, item.routing_key = exchange, routing_key
        properties = message.properties
        item.correlation_id = properties.get("correlation_id")
        item.expiration = properties.get("expiration")
        item.user_id = properties.get("user_id")
        item.is_odd = is_odd(item.expiration, properties.get("application_headers"))
        body = message.body
        item.size = len(body.encode(properties.get("content_encoding") or "utf-8") if isinstance(body, str) else body)
        line.publish(item.frames, item)

    def finish(self, writes: bool = True) -> None:
        self.line.finish(writes)

    def close(self) -> None:
        self.line.close()


class _PlainSession:
    """Over another transport, which confirms nothing."""

    def __init__(self, connection: Connection, note: Callable[[Call], Item]) -> None:
        self._note = note
        self._connection = connection
        self._channel = connection.channel()
        self.producer = _Producer(connection, self._channel, self._told)
        self._reason = f"the transport {connection.transport.driver_type!r} doesn't say what becomes of a message"
        LOGGER.warning("bulk_publish: %s; every outcome is unknown", self._reason)

    def _told(self, call: Call) -> None:
        if is_task(call):
            self.publish(self._note(call))
        else:
            self.producer.send(call)

    def publish(self, item: Item) -> None:
        if item.call is None:
            return
        item.settle(UNKNOWN, "publishing it raised an error")
        self.producer.send(item.call)
        item.settle(UNKNOWN, self._reason)

    def finish(self, writes: bool = True) -> None:
        pass

    def close(self) -> None:
        self._connection.release()
