"""Workers without a process: one thread consumes the application's queues, and says what it receives.

For a project that names no fleet, and for one whose workers are somebody else's. Kombu declares the queues as a worker
would. Nothing of Celery's worker runs here, so the application's tasks, signals and settings of its workers are not
touched, and the application needs no `enable_receipts`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from celery import Celery
from kombu import Connection, Consumer, Queue
from kombu.common import Broadcast
from kombu.message import Message as KombuMessage

from waybill.celery_app import installed
from waybill.celery_app.declared import exchange_bindings
from waybill.testing import brokers
from waybill.testing.outcomes import Outcome
from waybill.testing.receipts import (
    DISCARDED,
    ENDED,
    EVENT_GROUP,
    RECEIVED,
    has_expired,
    publish_events,
    receipt_event,
)
from waybill.testing.stand_ins import StatedOutcomes

_LOGGER = logging.getLogger(__name__)

# What stands behind the `@` of a receiver's name.
HOST = "receiver"

# Seconds after which the thread looks whether it is to end.
PATIENCE = 0.05

# Messages that a queue may hand out ahead; a stream wants a limit.
PREFETCH = 100


class Receivers:
    """Consume queues, each message acknowledged and not run: `with Receivers(app, {"usa": [queue]}) as receivers: ...`.

    Args:
        app: the application; its broker's URL says which broker and vhost.
        queues_by_worker: receiver's name -> the queues that it consumes, as Kombu has them; without it there is a
            receiver for each queue of the application, also for those that a publication adds.
    """

    runs_tasks = False

    def __init__(self, app: Celery, queues_by_worker: Mapping[str, Sequence[Queue]] | None = None) -> None:
        self._app = app
        self._is_one_for_each = queues_by_worker is None
        self._queues_by_worker = dict(one_for_each(app) if queues_by_worker is None else queues_by_worker)
        self._new: SimpleQueue[tuple[str, Sequence[Queue], threading.Event]] = SimpleQueue()
        self._lock = threading.Lock()  # outcomes are stated by another thread
        self._is_ending = False
        self._failure: BaseException | None = None
        self._outcomes: list[StatedOutcomes] = []

    def queues(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Node name -> its queues, as a worker tells of them."""
        return {
            f"{name}@{HOST}": [queue.as_dict(recurse=True) for queue in queues]
            for name, queues in self._queues_by_worker.items()
        }

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._connection = stack.enter_context(brokers.connect(self._app))
            # Not on the connection above: a confirm would be waited for within the wait for messages.
            self._events = stack.enter_context(self._app.connection_for_write())
            declare(self._app, self._connection, self._app.amqp.queues.values())
            for name, queues in self._queues_by_worker.items():
                self._consume(name, queues)
            self._thread = threading.Thread(target=self._run, name="waybill-receivers", daemon=True)
            self._thread.start()
            stack.callback(self._end)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def check_alive(self) -> None:
        """Raise what has ended the thread."""
        if self._failure is not None:
            raise self._failure

    def state(self, outcomes: Mapping[str, Outcome]) -> bool:
        """From now on these tasks end so."""
        with self._lock:
            for one in self._outcomes:
                one.replace(outcomes)
        return True

    def refresh(self) -> bool:
        """Consume the queues that the application has by now; whether there were new ones.

        Celery makes a queue for a name that the application doesn't declare, when a task is published to it.
        """
        new = one_for_each(self._app) if self._is_one_for_each else {}
        for name in self._queues_by_worker:
            new.pop(name, None)
        for name, queues in new.items():
            is_consumed = threading.Event()
            self._new.put((name, queues, is_consumed))
            while not is_consumed.wait(PATIENCE):
                self.check_alive()
            self._queues_by_worker[name] = queues
        return bool(new)

    def is_publishing(self) -> bool:
        """Whether the thread that asks is the one that receives: a retry, or the next link of a chain."""
        return threading.current_thread() is self._thread

    def _consume(self, name: str, queues: Sequence[Queue]) -> None:
        """Begin to consume: on a channel of the receiver's own, by a consumer for each queue."""
        worker = f"{name}@{HOST}"
        dispatcher = self._app.events.Dispatcher(self._events, hostname=worker, enabled=False)
        dispatcher.groups = {EVENT_GROUP}
        dispatcher.enable()
        outcomes = StatedOutcomes(self._app, worker)
        self._outcomes.append(outcomes)
        channel = self._connection.channel()
        for queue in queues:
            Consumer(
                channel,
                [queue],
                on_message=partial(self._receive, _Receiver(queue.name, dispatcher, outcomes)),
                accept=self._app.conf.accept_content,
                prefetch_count=PREFETCH,
            ).consume()

    def _receive(self, receiver: _Receiver, message: KombuMessage) -> None:
        """Say what came, and end it as stated; Celery's worker acknowledges what it throws away, too."""
        errors = self._connection.connection_errors
        told = _told(message)
        task = (str(told.get("id") or ""), str(told.get("task") or ""))
        # Which tasks the workers register that it stands for is not known here.
        reason = "unreadable" if not task[1] else "expired" if has_expired(told.get("expires")) else ""
        if reason:
            receiver.send(DISCARDED, message, task, reason=reason)
            message.ack_log_error(_LOGGER, errors)
            return
        receiver.send(RECEIVED, message, task)
        with self._lock:
            happened = receiver.outcomes.end(message, errors)
        if happened:
            receiver.send(ENDED, message, task, happened=list(happened))

    def _run(self) -> None:
        # What a stand-in publishes is the application's; a thread has no current application of its own.
        self._app.set_current()
        failures = (*self._connection.connection_errors, *self._connection.channel_errors)
        try:
            while not self._is_ending:
                while not self._new.empty():
                    name, queues, is_consumed = self._new.get()
                    self._consume(name, queues)
                    is_consumed.set()
                with suppress(TimeoutError):
                    self._connection.drain_events(timeout=PATIENCE)
        except failures as error:
            if not self._is_ending:
                self._failure = error

    def _end(self) -> None:
        self._is_ending = True
        self._thread.join()


def declare(app: Celery, connection: Connection, queues: Iterable[Queue]) -> None:
    """Declare queues as a worker would, with what belongs to no single queue.

    That is the bindings between exchanges, and Celery's delayed delivery. A `Broadcast` has a queue only while somebody
    consumes it.
    """
    lasting = [queue for queue in queues if not isinstance(queue, Broadcast)]
    with connection.channel() as channel:
        for exchange, bindings in exchange_bindings(app).items():
            exchange(channel).declare()
            for binding in bindings:
                binding.declare(channel)
                binding.bind(exchange(channel))
        for queue in lasting:
            if not queue.no_declare:
                queue(channel).declare()
    if installed.delays_natively(app):
        kind = app.conf.broker_native_delayed_delivery_queue_type
        installed.declare_delayed_delivery(connection, lasting, kind)


def one_for_each(app: Celery) -> dict[str, Sequence[Queue]]:
    """A receiver for each queue, named after it; that of a Broadcast after its alias."""
    return {queue.alias or name: [queue] for name, queue in app.amqp.queues.items()}


@dataclass(frozen=True, slots=True)
class _Receiver:
    """What one receiver needs for one queue."""

    queue: str
    dispatcher: Any
    outcomes: StatedOutcomes

    def send(self, kind: str, message: KombuMessage, task: tuple[str, str], **more: object) -> None:
        publish_events(self.dispatcher, [receipt_event(kind, self.dispatcher, self.queue, message, task, **more)])


def _told(message: KombuMessage) -> Mapping[str, Any]:
    """Where a message says what its task is: in its headers, or in its body if it is of the older protocol."""
    if (message.headers or {}).get("task"):
        return dict(message.headers)
    try:
        body = message.decode()
    except Exception:  # what a stranger has sent may fail in any way
        return {}
    return body if isinstance(body, Mapping) else {}
