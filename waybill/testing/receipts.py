"""A worker says what it received: `enable_receipts(app)`, one line in any Celery application.

For each task message, as soon as it is received and before it runs, the worker sends the Celery event
`waybill-received` (`waybill-discarded` for a message that it throws away: a task that it has not registered, that has
expired or is revoked, or that it can't read). Any event consumer sees them; `Receipt` reads them. AMQP doesn't deliver
the name of the queue: it is known from the consumer tag of the delivery, since the worker registered one tag for each
queue. Kombu's virtual transports (Redis and others) deliver neither, but hand each message to a callback of its queue,
and this is where it is noted.

The law of reading receipts: from one worker they arrive in the order in which it received the messages, because they
are published on one channel. Nothing is known of the order between workers.

Receipts are numbered, so that a missing one is noticed, and the last ones are sent again when the link that they went
by has broken. While somebody watches, each is on the wire before its task begins and its message is acknowledged: a
worker that is killed has told of everything that it did. That costs a small task a quarter of its time, so that
receipts gather at other times.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import kombu
from celery import Celery, bootsteps, signals
from celery.events import Event
from celery.utils.time import maybe_iso8601, maybe_make_aware, utcoffset
from celery.worker.consumer import Consumer
from celery.worker.control import control_command
from celery.worker.request import Request
from celery.worker.state import reserved_requests
from kombu import Connection
from kombu.message import Message as KombuMessage
from kombu.transport import virtual

from waybill.celery_app.names import MARKER, worker_name
from waybill.celery_app.private import tags_of, wrap_callbacks

EVENT_GROUP = "waybill"
RECEIVED = f"{EVENT_GROUP}-received"
DISCARDED = f"{EVENT_GROUP}-discarded"
ENDED = f"{EVENT_GROUP}-ended"

# Seconds for which the receipts of a busy worker gather, and how many at most: a publication costs as much as a good
# part of a small task, so that many receipts share one. The first after a pause is sent at once, and so is a marker's
# with all that have gathered, for somebody is waiting for it.
GATHER = 0.1
MAX_GATHERED = 200

# How many receipts are sent again when their link has broken, and how old they may be in seconds: of what was written
# to it last, nobody knows whether it arrived.
KEPT_RECEIPTS, KEPT_FOR = 1_000, 60.0

# Seconds for which events wait for who listens to them.
KEPT = 600

# Seconds for which a connection is drained to subscribe; nothing is waited for.
SUBSCRIBE_TIMEOUT = 0.001

# The command of Celery's remote control that tells a worker for how many seconds it is watched.
WATCHED = "waybill_watched"

TRANSIENT = 1

# Where the name of the queue is noted in the delivery information of a virtual transport's message.
NOTED_QUEUE = "waybill_queue"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One message, received by one worker.

    Attributes:
        task_id, task: the id and the name of the task.
        worker: the worker's node name, such as `videos@host`.
        queue: the queue that the message was delivered from.
        exchange, routing_key: as it was published last (a dead-lettered message names its dead-letter exchange).
        priority: as published, None without one.
        redelivered: True when the broker delivered this message before.
        time: when the worker received it, in seconds since the epoch, on the worker's clock.
        is_discarded: True when the worker threw the message away.
        reason: why it did: `unknown task`, `expired`, `revoked` or `unreadable`.
        death: for a dead letter, why and from which queue it came last: `("rejected", "orders")`.
    """

    task_id: str
    task: str
    worker: str
    queue: str
    exchange: str
    routing_key: str
    priority: int | None
    redelivered: bool
    time: float
    is_discarded: bool = False
    reason: str = ""
    death: tuple[str, str] | None = None

    @property
    def worker_name(self) -> str:
        """The worker's name without its host."""
        return worker_name(self.worker)

    @property
    def place(self) -> str:
        """Who received it, and from where: `videos (encodings)`."""
        return f"{self.worker_name} ({self.queue})"

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Receipt:
        """Read a Celery event of the group `waybill`."""
        return cls(
            task_id=event["uuid"],
            task=event["name"],
            worker=event["hostname"],
            queue=event["queue"],
            exchange=event["exchange"],
            routing_key=event["routing_key"],
            priority=event["priority"],
            redelivered=event["redelivered"],
            time=event["timestamp"],
            is_discarded=event["type"] == DISCARDED,
            reason=event.get("reason", ""),
            death=(event["death"][0], event["death"][1]) if event.get("death") else None,
        )


def has_expired(expires: object) -> bool:
    """Whether a worker throws a task away whose header `expires` says this; one that can't be read has not expired."""
    try:
        due = maybe_iso8601(expires)
    except (TypeError, ValueError, AttributeError):
        return False
    return due is not None and maybe_make_aware(due) < datetime.now(UTC)


def receipt_event(
    kind: str, dispatcher: Any, queue: str, message: KombuMessage, task: tuple[str, str], **more: object
) -> Mapping[str, Any]:
    """The event that tells of a message.

    Args:
        dispatcher: Celery's, which knows the worker's name.
        task: its id and its name.
        more: further fields.
    """
    delivery = message.delivery_info
    deaths = (message.headers or {}).get("x-death") or ()
    if deaths and isinstance(deaths[0], Mapping):
        more["death"] = [str(deaths[0].get("reason")), str(deaths[0].get("queue"))]
    event: Mapping[str, Any] = Event(
        kind,
        hostname=dispatcher.hostname,
        utcoffset=utcoffset(),
        pid=dispatcher.pid,
        clock=dispatcher.clock.forward(),
        uuid=task[0],
        name=task[1],
        queue=queue,
        exchange=delivery["exchange"],
        routing_key=delivery["routing_key"],
        priority=message.properties.get("priority"),
        redelivered=bool(delivery.get("redelivered")),
        **more,
    )
    return event


def publish_events(dispatcher: Any, events: list[Mapping[str, Any]]) -> None:
    """Send events as one list, which every Celery event consumer understands."""
    dispatcher.producer.maybe_declare(dispatcher.exchange)  # nobody has, where nobody listens
    channel = dispatcher.producer.channel  # the producer itself takes half as long again
    message = channel.prepare_message(
        json.dumps(events), 0, "application/json", "utf-8", dispatcher.headers, {"delivery_mode": TRANSIENT}
    )
    channel.basic_publish(message, exchange=dispatcher.exchange.name, routing_key=f"{EVENT_GROUP}.multi")


@contextmanager
def listening(
    app: Celery, connection: Connection, routing_key: str, callback: Callable[[Any, KombuMessage], None]
) -> Iterator[None]:
    """Hear Celery's events within the block, while the connection is drained.

    Args:
        routing_key: which events: `waybill.#` for the group of that name.
        callback: called with each event; a worker with an event loop sends several in one turn as a list.
    """
    # Celery lets an event expire in 5 s; whoever listens may be away for longer, and misses none.
    events = app.events.Receiver(connection, routing_key=routing_key, queue_ttl=KEPT, queue_expires=KEPT)
    with kombu.Consumer(
        connection.channel(), queues=[events.queue], callbacks=[callback], accept=events.accept, no_ack=True
    ):
        if isinstance(connection.transport, virtual.Transport):
            # Kombu subscribes on Redis when the connection is drained first; what was published before would be lost.
            with suppress(TimeoutError):
                connection.drain_events(timeout=SUBSCRIBE_TIMEOUT)
        yield


def enable_receipts(app: Celery) -> None:
    """Let every worker of this application send a receipt for each task message that it receives.

    Call it where the application is made; a second call changes nothing. A receipt is a Celery event that names the
    worker and the queue. Receipts are sent whether or not task events are on (`-E`), and don't switch the others on.
    Nothing is loaded for it beyond Celery and Kombu.

    Example:
        >>> from celery import Celery
        >>> from waybill import enable_receipts
        >>> app = Celery("shop")
        >>> enable_receipts(app)
    """
    app.steps["consumer"].add(ReceiptSender)
    # Not shared: another application of this process sends no receipts because this one does.
    app.task(_marker, name=MARKER, shared=False, ignore_result=True, acks_late=False)


def _marker() -> None:
    """Do nothing: the receipt is the message."""


class ReceiptSender(bootsteps.StartStopStep):
    """The part of the worker that sends the receipts.

    It comes after `Tasks`, which decides at its start whether the tasks' own events are sent: switching the event
    dispatcher on before that would cost a call for each of them.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    # Seconds for which receipts may gather.
    gather = GATHER

    def __init__(self, consumer: Consumer, **kwargs: object) -> None:
        super().__init__(consumer, **kwargs)
        # Consumer tag -> queue. A tag is never used twice, and stays known after `cancel_consumer`: its last
        # messages may still be on their way.
        self._queues: dict[str, str] = {}
        self._waiting: list[Mapping[str, Any]] = []
        # The message whose task's strategy is being called: Celery doesn't tell which one it throws away.
        self._current: tuple[Consumer, KombuMessage] | None = None
        self._is_flush_due = False
        self._flushed = 0.0
        self._dispatcher: Any = None
        self._own: Connection | None = None
        # Receipts are numbered within a stream, which is this object; and those that were sent last, with their times.
        self._stream = uuid.uuid4().hex
        self._number = 0
        self._watched_until = 0.0
        self._sent: deque[tuple[float, Mapping[str, Any]]] = deque(maxlen=KEPT_RECEIPTS)

    def start(self, consumer: Consumer) -> None:
        """Called at each (re)connection, when the event dispatcher and the task consumer are new."""
        self._use(consumer.event_dispatcher or self._make_dispatcher(consumer))
        self._is_flush_due = False
        self._take_again()
        consumer.waybill_receipts = self
        if isinstance(transport := consumer.connection.transport, virtual.Transport):
            wrap_callbacks(transport, _QueueNotes)
        self._learn_tags(consumer)
        for name, strategy in consumer.strategies.items():
            consumer.strategies[name] = self.strategy(consumer, strategy)
        for signal, handler in self._handlers(consumer):
            signal.connect(handler, sender=consumer, dispatch_uid=id(self))
        signals.task_revoked.connect(self._on_revoked, dispatch_uid=id(self))

    def stop(self, consumer: Consumer) -> None:
        for signal, _ in self._handlers(consumer):
            signal.disconnect(sender=consumer, dispatch_uid=id(self))
        signals.task_revoked.disconnect(dispatch_uid=id(self))
        self._flush(consumer)
        self._close_own()

    def _handlers(self, _consumer: Consumer) -> tuple[tuple[Any, Callable[..., None]], ...]:
        return (
            (signals.task_received, self._on_received),
            (signals.task_unknown, self._on_unknown),
            (signals.task_rejected, self._on_unreadable),
        )

    def strategy(self, consumer: Consumer, strategy: Callable[..., Any]) -> Callable[..., Any]:
        """What Celery calls with each message of one task, in place of the task's own strategy."""

        def noting(message: KombuMessage, *args: Any, **kwargs: Any) -> Any:
            self._current = (consumer, message)
            try:
                return strategy(message, *args, **kwargs)
            finally:
                self._current = None

        return noting

    def _use(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        if not dispatcher.enabled:
            dispatcher.groups = {EVENT_GROUP}  # no other event than ours
            dispatcher.enable()

    def _make_dispatcher(self, consumer: Consumer) -> Any:
        """A dispatcher of our own: a worker without events, gossip and heartbeats has none."""
        self._close_own()
        self._own = consumer.connection_for_write(heartbeat=0)  # nobody would send them
        return consumer.app.events.Dispatcher(self._own, hostname=consumer.hostname, enabled=False)

    def _close_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            self._dispatcher.close()
            own.release()

    def _learn_tags(self, consumer: Consumer) -> None:
        self._queues.update({tag: queue for queue, tag in tags_of(consumer.task_consumer).items()})

    def _on_received(self, sender: Consumer, request: Request, **_: object) -> None:
        self.send(sender, RECEIVED, request.message, (request.id, request.name))

    def _on_unknown(self, sender: Consumer, message: KombuMessage, name: str, id: str, **_: object) -> None:
        self.send(sender, DISCARDED, message, (id, name), reason="unknown task")

    def _on_unreadable(self, sender: Consumer, message: KombuMessage, **_: object) -> None:
        headers = message.headers or {}
        self.send(sender, DISCARDED, message, (headers.get("id", ""), headers.get("task", "")), reason="unreadable")

    def _on_revoked(self, sender: Any, expired: bool, **_: object) -> None:
        """A task that is thrown away as it comes in; one that is revoked later has its receipt."""
        if self._current is not None:
            consumer, message = self._current
            task = (message.headers["id"], sender.name)
            self.send(consumer, DISCARDED, message, task, reason="expired" if expired else "revoked")

    def _queue_of(self, consumer: Consumer, delivery: Mapping[str, Any]) -> str:
        if (noted := delivery.get(NOTED_QUEUE)) is not None:
            return str(noted)
        if delivery["consumer_tag"] not in self._queues:  # a queue that was added at run time
            self._learn_tags(consumer)
        return self._queues[delivery["consumer_tag"]]

    def send(self, consumer: Consumer, kind: str, message: KombuMessage, task: tuple[str, str], **more: object) -> None:
        """Tell of a message, at once or with the next ones.

        Args:
            task: its id and its name.
        """
        queue = self._queue_of(consumer, message.delivery_info)
        self._number += 1
        more |= {"stream": self._stream, "number": self._number}
        self._waiting.append(receipt_event(kind, self._dispatcher, queue, message, task, **more))
        now = monotonic()
        is_due = now < self._watched_until or now - self._flushed > self.gather
        if is_due or task[1] == MARKER or len(self._waiting) >= MAX_GATHERED or consumer.hub is None:
            self._flush(consumer)
        elif not self._is_flush_due:
            self._is_flush_due = True
            consumer.hub.call_later(GATHER, self._on_time, consumer)

    def be_watched(self, seconds: float) -> None:
        """For so long, tell of each message before its task begins."""
        self._watched_until = monotonic() + seconds

    def _on_time(self, consumer: Consumer) -> None:
        self._is_flush_due = False
        self._flush(consumer)

    def _flush(self, consumer: Consumer) -> None:
        """Send what has gathered."""
        if not self._waiting:
            return
        self._flushed = monotonic()
        try:
            self._send_waiting()
        except consumer.connection_errors:
            self._send_by_another_link(consumer)

    def _send_waiting(self) -> None:
        publish_events(self._dispatcher, self._waiting)
        self._sent.extend((self._flushed, event) for event in self._waiting)
        self._waiting = []

    def _send_by_another_link(self, consumer: Consumer) -> None:
        """Send over a connection of our own: a worker doesn't notice by itself that its events' connection is gone."""
        self._take_again()
        try:
            self._use(self._make_dispatcher(consumer))
            self._send_waiting()
        except consumer.connection_errors:
            pass  # the broker is gone, which the worker notices; `start` comes again and they are sent with the next

    def _take_again(self) -> None:
        """Let what went by a link that has broken wait once more; who has seen it knows by its number."""
        kept = [event for sent, event in self._sent if monotonic() - sent < KEPT_FOR]
        self._sent.clear()
        self._waiting = kept + self._waiting


@control_command(name=WATCHED)
def be_watched(state: Any, seconds: float) -> dict[str, int]:
    """Somebody watches for so long, and is told how many tasks run or wait here; called by `Watch`."""
    state.consumer.waybill_receipts.be_watched(seconds)
    return {"held": sum(request.name != MARKER for request in reserved_requests)}


class _QueueNotes(dict[str, Callable[[dict[str, Any]], Any]]):
    """A virtual transport's callbacks, one for each queue that it consumes, each noting its queue on the message."""

    def __init__(self, callbacks: Mapping[str, Callable[[dict[str, Any]], Any]]) -> None:
        super().__init__()
        for queue, callback in callbacks.items():
            self[queue] = callback

    def __setitem__(self, queue: str, callback: Callable[[dict[str, Any]], Any]) -> None:
        def note(message: dict[str, Any]) -> Any:
            message["properties"]["delivery_info"][NOTED_QUEUE] = queue
            return callback(message)

        super().__setitem__(queue, note)
