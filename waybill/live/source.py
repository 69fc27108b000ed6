"""The broker that is watched: its firehose over AMQP, and what exists there by its management API."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

from kombu import Connection

from waybill.errors import BrokerUnavailable, InputError
from waybill.live.events import Event, read_event
from waybill.live.names import TAP
from waybill.rabbitmq.management import Management
from waybill.rabbitmq.state import LiveFacts, live_facts
from waybill.testing.brokers import open_connection

FIREHOSE = "amq.rabbitmq.trace"
KEYS = ("publish.#", "deliver.#")

WAIT = 0.05
"""Seconds for which the firehose is listened to before something else has its turn."""

READ_EVERY, READ_AGAIN = 1.0, 0.1
"""Seconds between two readings of what exists; the second where something went otherwise than predicted."""

SHARE = 4.0
"""A reading that takes long is made less often: so many times its own length lies between two."""


class Taker(Protocol):
    """Who is told, by the source's thread."""

    @property
    def is_doubtful(self) -> bool:
        """Whether what exists should be read anew, soon."""

    def take_event(self, event: Event) -> None:
        """The firehose has copied something."""

    def take_facts(self, facts: LiveFacts) -> None:
        """What exists now."""

    def failed(self, error: BrokerUnavailable) -> None:
        """The broker is gone: nothing more will come."""


class Source:
    """Watches one vhost from the beginning of the block to its end.

    Args:
        url: of AMQP.
        management_url: of the management API.
        may_trace: the firehose may be switched on, which needs an administrator; it is as before afterwards.

    Raises:
        BrokerUnavailable: on entering the block, the broker or its API doesn't answer.
        InputError: on entering the block, the firehose is off and may not be switched on.
    """

    def __init__(self, url: str, management_url: str, vhost: str, *, may_trace: bool) -> None:
        self._url = url
        self._vhost = vhost
        self._may_trace = may_trace
        self._management_url = management_url
        self._management = Management(management_url, vhost)
        self._connection = Connection(url)
        self._is_ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._was_traced = True

    def __enter__(self) -> Source:
        self._was_traced = bool(self._management.vhost().get("tracing"))
        if not self._was_traced and not self._may_trace:
            raise InputError(
                f"the firehose of vhost '{self._vhost}' is off: --trace switches it on while this runs; "
                "it costs the broker about as much again, so use it where that is no harm"
            )
        open_connection(self._connection, self._url)
        if not self._was_traced:
            self._management.set_tracing(is_on=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_ending.set()
        if self._thread is not None:
            self._thread.join()
        try:
            if not self._was_traced:
                self._management.set_tracing(is_on=False)
        except BrokerUnavailable:
            pass  # it is gone, and its tracing with it
        finally:
            self._management.__exit__()
            self._connection.release()

    def facts(self) -> LiveFacts:
        """What exists, read now."""
        return live_facts(self._management, self._vhost)

    def send(self, exchange: str, key: str, headers: Mapping[str, Any], payload: str) -> bool:
        """Publish a message; returns whether a queue took it.

        Raises:
            BrokerUnavailable: it is refused.
        """
        with Management(self._management_url, self._vhost) as management:  # of this thread, whichever it is
            return management.publish(exchange, key, headers, payload)

    def start(self, taker: Taker) -> None:
        """Tell what flows from now on, by a thread of its own."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(taker, ready), name="waybill-live", daemon=True)
        self._thread.start()
        ready.wait()

    def _run(self, taker: Taker, ready: threading.Event) -> None:
        try:
            channel = self._connection.channel()
            queue = f"{TAP}{uuid.uuid4().hex[:12]}"
            channel.queue_declare(queue, exclusive=True, auto_delete=True)
            for key in KEYS:
                channel.queue_bind(queue, FIREHOSE, key)

            def on_message(message: Any) -> None:
                key, headers = message.delivery_info["routing_key"], message.headers or {}
                body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
                taker.take_event(read_event(key, headers, body, time.time()))

            channel.basic_consume(queue, no_ack=True, callback=on_message)
            taker.take_facts(self.facts())
            ready.set()
            self._listen(taker)
        except (BrokerUnavailable, OSError, *self._connection.connection_errors) as error:
            if not self._is_ending.is_set():
                taker.failed(BrokerUnavailable(f"the broker is gone: {error}"))
        finally:
            ready.set()

    def _listen(self, taker: Taker) -> None:
        read = time.monotonic()
        pause = READ_EVERY
        while not self._is_ending.is_set():
            self._drain()
            now = time.monotonic()
            if now - read > (min(pause, READ_AGAIN) if taker.is_doubtful else pause):
                taker.take_facts(self.facts())
                read = time.monotonic()
                pause = max(READ_EVERY, SHARE * (read - now))

    def _drain(self) -> None:
        """Take what there is, for a moment."""
        until = time.monotonic() + WAIT
        drain: Callable[..., Any] = self._connection.drain_events
        try:
            while (left := until - time.monotonic()) > 0:
                drain(timeout=left)
        except TimeoutError:
            return
