"""Publish, and know who received it, and that nobody else did.

Absence is proven and not waited for. After the messages, a *marker* is published into every queue that the fleet
consumes, and again until every consumer of that queue has received one. The proof:

1. A queue hands out its messages in order. What was in it before the marker has been handed out before the marker.
   Markers carry the lowest priority there is, so that they stay behind on a queue with priorities: 0, and on Redis,
   where Kombu serves the smallest number first, 9.
2. A consumer gets its messages in the order in which the queue handed them to it. When *each* consumer of the queue
   has received a marker, each has received everything that was handed to it before.
3. A worker's receipts arrive in the order in which it received (see `receipts`). When its marker's receipt is here, so
   is every earlier one.

A queue with a single active consumer owes one marker in all. A queue with a length limit, or with a TTL shorter than
the wait, cannot be marked: the marker could push a message out, or expire. It is refused.

What a task causes by its end (a rejected message that goes to a dead-letter queue) may enter a queue after that queue's
marker. So the round is repeated until one brings no new receipt; a receipt that came before the first round is new to
it. A worker may take the marker while an earlier task still runs: so the workers are asked whether they hold a task,
until none does. The pytest plugin's own workers needn't be asked: those that receive only have ended each message
before they look at the next, those that run tasks tell of each task's end. And a message in a queue that nobody
consumes may leave it for a dead-letter exchange, which is waited for as well. Tasks with a countdown are not waited
for.

When receipts are missing, when the watch's own connection breaks, when two workers have one name, or when somebody
consumes a queue who sends no receipts, there is no proof, and an error says so.

Consumers of one queue with different priorities are out of reach: the lesser ones answer only while the others are
busy.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from time import monotonic, sleep
from types import TracebackType
from typing import Any

from amqp.exceptions import ChannelError, MessageNacked, NotFound
from celery import Celery
from kombu import Connection, Producer
from kombu.message import Message as KombuMessage

from waybill.celery_app import publication
from waybill.celery_app.names import MARKER, worker_name
from waybill.celery_app.publication import Publication
from waybill.errors import FleetError, InputError, WorkersSilent
from waybill.testing import brokers
from waybill.testing.delaying import delaying_queues
from waybill.testing.delivery import Delivery
from waybill.testing.outcomes import Outcome
from waybill.testing.receipts import ENDED, EVENT_GROUP, Receipt, listening
from waybill.testing.recording import hearing
from waybill.testing.roll_call import ROLL_CALL_ROUND, RollCall
from waybill.testing.rounds import Round
from waybill.testing.seen import End, Seen, Streams, Views
from waybill.testing.stating import Stating, Workers

# Seconds in which every consumer has to answer its marker; a worker busy with a long task is waited for that long.
SETTLE_TIMEOUT = 60.0
# Seconds after which a watch ends although a marker still waits for a worker's pool: that worker is then slow to stop.
POOL_TIMEOUT = 5.0

# Seconds between two markers for a queue whose marker went to a consumer that had answered: another of its consumers is
# busy, and the free ones must not be flooded. Doubled each time, and small again with the next answer.
FIRST_PACE, SLOWEST_PACE = 0.005, 0.25

# Driver -> the priority that is served last, where it isn't 0 (kombu/transport/redis.py, PRIORITY_STEPS).
LAST_PRIORITY = {"redis": 9}


class Watch(Views, Stating):
    """Publish tasks and see which workers receive them, and that nobody else does.

    The workers must run with `enable_receipts(app)`. Receipts are seen from the moment in which the block is entered;
    Call `discover_workers` before `settle`, and again when a worker has come or gone. Without an error the block ends
    when no marker waits for a worker's pool, so that the workers may be stopped; after `POOL_TIMEOUT` at the latest.

    Args:
        app: the application; its broker URL says which broker and vhost.
        management_url: `http://user:password@host:port` of the broker's management API. With it, the limits that
            policies set on queues are known; without, a marker could push a message out of a queue with such a limit.

    Attributes:
        connection: open within the block.
        consumers_by_worker: node name -> queue -> exchange: what each worker consumed when it was last discovered.

    Example:
        >>> from celery import Celery
        >>> from celery.contrib.testing.worker import start_worker
        >>> from waybill import Broker, Watch, enable_receipts
        >>> with Broker() as broker:
        ...     app = Celery("shop", broker=broker.url)
        ...     app.conf.broker_heartbeat = 0  # a worker in a thread ends sooner
        ...     enable_receipts(app)
        ...     @app.task(name="shop.pack")
        ...     def pack(parcel): ...
        ...     with start_worker(app, perform_ping_check=False), Watch(app) as watch:
        ...         _ = watch.discover_workers()
        ...         sent = watch.publish("shop.pack", ("a book",))
        ...         (delivery,) = watch.settle()
        >>> [receipt.queue for receipt in delivery.received]
        ['celery']
    """

    def __init__(self, app: Celery, *, management_url: str | None = None) -> None:
        self.app = app
        self._management_url = management_url
        self.connection: Connection = None
        self._roll_call = RollCall(app, None)
        self._streams = Streams()
        self._check_alive: Callable[[], None] = lambda: None
        self._exit = ExitStack()
        self._receipts: list[Receipt] = []
        self._pending: list[Publication] = []
        self._markers: set[str] = set()
        self._round = Round({})
        self._is_proven = True
        self._due: list[str] = []
        self._pace = FIRST_PACE
        self._workers: Workers | None = None
        self._seen = Seen()
        self._stated: dict[str, Outcome] = {}
        self._recordings: list[list[Publication]] = []
        self._answered: set[str] = set()  # what was published mandatory: the broker has said whether a queue took it

    def __enter__(self) -> Watch:
        if MARKER not in self.app.tasks and self._workers is None:
            raise FleetError(
                f"the application {self.app.main!r} sends no receipts: "
                "call `waybill.enable_receipts(app)` where it is made"
            )
        with ExitStack() as stack:
            self.connection = stack.enter_context(brokers.connect(self.app))
            self._producer = Producer(self.connection)
            self._roll_call = RollCall(self.app, self.connection)
            stack.callback(self._roll_call.close)
            stack.enter_context(listening(self.app, self.connection, f"{EVENT_GROUP}.#", self._on_events))
            if self._workers is not None and self._workers.runs_tasks:
                stack.enter_context(listening(self.app, self.connection, "task.#", self._on_task_events))
            stack.enter_context(hearing(self._on_published))
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_amqp = self.connection.transport.driver_type == "amqp"
        if kind is not None and is_amqp and self.connection.connected:
            # Broken off, perhaps within a frame: to a goodbye there might never be an answer.
            self.connection.connection.collect()
        self._exit.close()
        if kind is None and self._markers and not self._only_receives:
            with suppress(*self.connection.connection_errors):  # the broker is gone, and nothing to wait for
                self._wait_for_pools()

    def _wait_for_pools(self) -> None:
        """Return when no marker waits for the pool of a worker that still runs, or after `POOL_TIMEOUT`.

        A worker says that it received a task when it hands it to its pool. Told to stop before the pool has said that
        it began, it forgets the task, and then waits half a minute for the process that has done it (Celery 5.7:
        `AsynPool.flush`; billiard 4.3: `Worker._ensure_messages_consumed`).
        """
        asked, pace, deadline = set(self.consumers_by_worker), FIRST_PACE, monotonic() + POOL_TIMEOUT
        while monotonic() < deadline:
            # By another connection: on the watch's, each receipt that comes in between counts as one of the answers.
            inspect = self.app.control.inspect(list(asked), timeout=ROLL_CALL_ROUND, limit=len(asked))
            answers = inspect.reserved() or {}
            asked -= {
                worker for worker, tasks in answers.items() if not any(task["id"] in self._markers for task in tasks)
            }
            if asked:
                asked -= self._ended(asked - answers.keys())
            if not asked:
                return
            sleep(pace)
            pace = min(2 * pace, SLOWEST_PACE)

    def _ended(self, workers: Collection[str]) -> set[str]:
        """Those of the workers that have ended: the queue of their remote control went with them."""
        if not workers or self.connection.transport.driver_type != "amqp":
            return set()
        with brokers.connect(self.app) as connection:
            return {
                worker for worker in workers if not _exists(connection, self.app.control.mailbox.get_queue(worker).name)
            }

    def publish(
        self, task: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Publication:
        """Publish a task, mandatory and confirmed; `settle` tells who received it.

        Args:
            task: the task's name. `options` are those of `apply_async`.

        Raises:
            FleetError: the connection is lost, or has been silent for half a minute: whether the task is there, nobody
                knows.
        """
        try:
            sent = publication.publish(self.app, self.connection, task, args, kwargs, **options)
        except self.connection.connection_errors as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            raise FleetError(
                f"the connection to the broker was lost while {task!r} was published ({why}): it may be there, or not"
            ) from error
        self._answered.add(sent.task_id)
        self._seen.sent[:] = [sent if one.task_id == sent.task_id else one for one in self._seen.sent]
        self.follow(sent)
        return sent

    def follow(self, sent: Publication) -> None:
        """Watch for a message that somebody else published while this watch was open."""
        self._pending.append(sent)

    @contextmanager
    def recording(self) -> Iterator[list[Publication]]:
        """Note what this process publishes within the block, whoever calls `.delay()`; `settle` then tells of it.

        Raises:
            InputError: `task_always_eager` is on, so that nothing is published.
        """
        self._refuse_eager()
        sent: list[Publication] = []
        self._recordings.append(sent)
        try:
            yield sent
        finally:
            self._recordings.remove(sent)
            known = {one.task_id for one in self._pending}
            self._pending += [one for one in sent if one.task_id not in known]

    def _refuse_eager(self) -> None:
        if self.app.conf.task_always_eager:
            raise InputError(
                "task_always_eager is on: `.delay()` runs the task in this process and publishes nothing, so nothing "
                "can be watched; set it to False for these tests"
            )

    def _on_published(self, sent: Publication) -> None:
        if sent.task == MARKER or (self._workers is not None and self._workers.is_publishing()):
            return
        self._is_proven = False
        self._seen.sent.append(sent)
        for recording in self._recordings:
            recording.append(sent)

    def settle(self) -> tuple[Delivery, ...]:
        """Who received each message published since the last call, in the order of publishing.

        Raises:
            FleetError: a worker did not answer its marker in time, or has ended, or consumes a queue that cannot be
                marked.
        """
        self._prove({sent.task_id for sent in self._pending})
        found = [(sent, self.received_so_far(sent.task_id)) for sent in self._pending]
        deliveries = tuple(Delivery(sent if received else self._asked(sent), received) for sent, received in found)
        self._pending.clear()
        self._receipts.clear()
        return deliveries

    def _asked(self, sent: Publication) -> Publication:
        """A publication that nobody received, with the broker's answer where it wasn't asked: does a queue take it?

        `.delay()` publishes without `mandatory`; a marker with the same exchange, key and headers is published with it.
        """
        if sent.task_id in self._answered or self.connection.transport.driver_type != "amqp":
            return sent
        return replace(sent, is_returned=self._is_returned(sent))

    def _is_returned(self, sent: Publication) -> bool:
        returned: list[object] = []
        message = self.app.amqp.create_task_message(str(uuid.uuid4()), MARKER, ignore_result=True)
        own = {name: value for name, value in sent.headers.items() if name not in message.headers}
        with self.connection.channel() as channel:
            Producer(channel, on_return=lambda *told: returned.append(told)).publish(
                message.body,
                exchange=sent.exchange,
                routing_key=sent.routing_key,
                headers={**own, **message.headers},
                mandatory=True,
                serializer="json",
                delivery_mode="transient",
                **message.properties,
            )
        return bool(returned)

    @property
    def sent(self) -> tuple[Publication, ...]:  # type: ignore[override]
        """What this process has published, whoever did; nothing is proven for it."""
        self._refuse_eager()
        return tuple(self._seen.sent)

    def _proven(self) -> Seen:
        self._refuse_eager()
        self._prove(None)
        return self._seen

    def forget(self) -> None:
        """Begin anew, as between two tests: nothing was published and received, and no outcome is stated.

        What was published and not settled is waited for, so that it is nobody else's.
        """
        if self._stated:
            self._stated.clear()
            self._state()
        if len(self._seen.sent) > 0 and not self._is_proven:
            self._prove(None)
        self._pending.clear()
        self._receipts.clear()
        self._seen.clear()

    @property
    def consumers_by_worker(self) -> dict[str, dict[str, str]]:
        """Node name -> queue -> exchange: what each worker consumed when it was last discovered."""
        return self._roll_call.consumers_by_worker

    def watch(self, workers: Workers) -> None:
        """Watch workers that were started for this watch. Call it before the block."""
        self._workers = workers

    def receipts_of(self, task_ids: Iterable[str]) -> dict[str, tuple[Receipt, ...]]:
        """Who received the tasks of these ids, whoever published them, since the last `settle`.

        For what a watch can't publish itself: the links of a chain come from workers.

        Returns:
            Task id -> its receipts, in the order of the workers' clocks.

        Raises:
            FleetError: as `settle`.
        """
        ids = tuple(dict.fromkeys(task_ids))
        self._prove(set(ids))
        return {one: self.received_so_far(one) for one in ids}

    def received_so_far(self, task_id: str) -> tuple[Receipt, ...]:
        """The receipts of a task that are here by now: one worker's as they came, between workers by their clocks.

        Nothing is proven: there may be others on their way. They arrive while the connection is drained.
        Receipts gather in a busy worker, so that a dead letter's second one may arrive before its first.
        """
        mine = (receipt for receipt in self._receipts if receipt.task_id == task_id)
        return tuple(sorted(mine, key=lambda receipt: receipt.time))

    def everything(self) -> tuple[Receipt, ...]:
        """Every receipt since the last `settle`, whoever published the tasks: of what isn't here nobody received any.

        Raises:
            FleetError: as `settle`.
        """
        self._prove(None)
        return tuple(self._receipts)

    def discover_workers(
        self, workers: Iterable[str] | None = None, check_alive: Callable[[], None] = lambda: None
    ) -> Mapping[str, Mapping[str, str]]:
        """Learn which worker consumes which queues, by asking the workers.

        Args:
            workers: the names (the part before `@`) of the workers to wait for, nobody else is asked; without them,
                everyone who answers, until as many are known as RabbitMQ counts consumers on the application's queues.
            check_alive: called while waiting, here and in `settle`; raises when waiting has become pointless.

        Raises:
            FleetError: somebody did not answer in time.
        """
        self._check_alive = check_alive
        if self._management_url is not None:
            self._roll_call.ask_limits(self._management_url)
        if self._workers is not None and (known := self._workers.queues()):
            self._roll_call.note(known)
        else:
            self._roll_call.ask(None if workers is None else frozenset(workers), check_alive)
        if self._workers is None:
            self._roll_call.refuse_without_receipts()
            self._roll_call.count()
        return self.consumers_by_worker

    def _prove(self, task_ids: Set[str] | None) -> None:
        """Run rounds of markers until one brings no new receipt of these tasks, or of any."""
        self._is_proven = True  # or it raises, and nobody need wait for that again
        if self._workers is not None and self._workers.refresh():
            self._roll_call.note(self._workers.queues())
        if not self._only_receives:  # else nothing waits in a queue for long
            for queue, arguments in self._roll_call.arguments.items():
                _refuse_unmarkable(queue, arguments)
        try:
            self._run_rounds(task_ids)
        except self.connection.connection_errors as error:
            raise FleetError(
                f"the connection to the broker was lost while it was watched ({error}): who received what since the "
                "last proof is not known"
            ) from error
        self._refuse_lost()

    def _run_rounds(self, task_ids: Set[str] | None) -> None:
        seen, is_over = 0, False
        while not is_over:
            self._run_round()
            # What a task causes comes after its end, a dead letter after the time that it waits. Whoever still ran when
            # the round was over is waited for before its receipts are counted: how many rounds there are is not chance.
            has_waited = self._await_ends()
            before, seen = seen, self._count(task_ids)
            is_over = seen == before and not (has_waited or self._await_expiry() or self._ask_newcomers())

    def _refuse_lost(self) -> None:
        """A receipt that is missing could be of any message: nothing is told of those that were watched."""
        if lost := dict(self._streams.lost):
            self._streams.lost.clear()
            self._pending.clear()
            self._receipts.clear()
            told = ", ".join(f"{count} of {worker}" for worker, count in lost.items())
            raise FleetError(
                f"receipts were lost on their way ({told}): the link of the worker's events broke, so who "
                "received what since the last proof is not known"
            )

    def _ask_newcomers(self) -> bool:
        """Ask again where a queue has more consumers than at the roll call; whether there were any."""
        if self._workers is not None or not self._roll_call.has_newcomers():
            return False
        self.discover_workers(check_alive=self._check_alive)
        return True

    def _await_ends(self) -> bool:
        """Wait for the tasks that run; whether there were any. Those with a countdown are not waited for."""
        if not self._unfinished():
            return False
        deadline = monotonic() + SETTLE_TIMEOUT
        while unfinished := self._unfinished():
            if monotonic() > deadline:
                waited = f"no end within {SETTLE_TIMEOUT:.0f} s of a task on {', '.join(unfinished)}"
                raise self._silence(waited, unfinished)
            self._drain()
        return True

    def _unfinished(self) -> list[str]:
        """The workers, of those that are known, that run a task still or have one ahead."""
        if self._workers is None:
            return self._roll_call.busy() if self._receipts else []
        return [worker for worker in self._seen.unfinished if worker in self.consumers_by_worker]

    def _await_expiry(self) -> bool:
        """Wait for the messages that wait in a queue for their dead-letter exchange; whether there were any."""
        if self.connection.transport.driver_type != "amqp":
            return False
        consumed = {queue for queues in self.consumers_by_worker.values() for queue in queues}
        waiting = [queue for queue in delaying_queues(self.app, consumed, SETTLE_TIMEOUT) if self._waiting(queue)]
        deadline = monotonic() + SETTLE_TIMEOUT
        while any(map(self._waiting, waiting)) and monotonic() < deadline:
            self._drain()
        return bool(waiting)

    def _waiting(self, queue: str) -> int:
        """How many messages wait in a queue; none when there is no such queue."""
        with suppress(ChannelError), self.connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)
        return 0

    def _drain(self) -> None:
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=FIRST_PACE)
        self._check_alive()

    def _count(self, task_ids: Set[str] | None) -> int:
        return sum(task_ids is None or receipt.task_id in task_ids for receipt in self._receipts)

    def _run_round(self) -> None:
        """Publish markers until every consumer of every queue has received one."""
        single = [queue for queue, found in self._roll_call.arguments.items() if found.get("x-single-active-consumer")]
        self._markers.clear()  # one that is late from the round before would prove nothing of this one
        self._round = Round(self.consumers_by_worker, single)
        self._due = list(self._round.markers())
        self._pace = FIRST_PACE
        again = now = monotonic()
        deadline = now + SETTLE_TIMEOUT
        fleeting = [
            queue
            for queue, found in self._roll_call.arguments.items()
            if self._only_receives and "x-message-ttl" in found
        ]
        while not self._round.is_complete:
            # A marker may have expired in a queue with a TTL, where only receivers consume: then another is due.
            due = self._due or [queue for queue in fleeting if self._round.owed[queue]]
            if due and now >= again:
                self._due = []
                for queue in due:
                    self._publish_marker(queue)
                again = monotonic() + self._pace
                self._pace = min(2 * self._pace, SLOWEST_PACE)
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=max(0.001, again - now) if self._due or fleeting else 1)
            self._check_alive()
            now = monotonic()
            if now > deadline:
                owing = {worker for workers in self._round.owed.values() for worker in workers}
                raise self._silence(f"no receipt within {SETTLE_TIMEOUT:.0f} s from {self._round}", owing)

    def _silence(self, waited: str, workers: Iterable[str]) -> WorkersSilent:
        """What to raise when workers don't answer, with what they are busy with, where they say so."""
        silent = sorted(set(workers))
        inspect = self.app.control.inspect(silent, timeout=ROLL_CALL_ROUND, limit=len(silent))
        active = [task["name"] for tasks in (inspect.active() or {}).values() for task in tasks]
        running = {name for name in active if name != MARKER}
        why = (
            f"busy with {', '.join(f'`{name}`' for name in sorted(running))}"
            if running
            else "busy with a long task, gone, or without `waybill.enable_receipts(app)`"
        )
        return WorkersSilent(f"{waited}: {why}", map(worker_name, silent))

    def _publish_marker(self, queue: str) -> None:
        if {"x-max-length", "x-max-length-bytes"} & self._roll_call.arguments.get(queue, {}).keys():
            self._wait_until_empty(queue)
        marker = str(uuid.uuid4())
        self._markers.add(marker)
        message = self.app.amqp.create_task_message(marker, MARKER, ignore_result=True)
        exchange, routing_key = self._roll_call.subscribed.get(queue, ("", queue))
        # A queue that goes with its worker refuses the marker; the worker is then missed, and named.
        with suppress(MessageNacked):
            self._producer.publish(
                message.body,
                exchange=exchange,
                routing_key=routing_key,
                headers=message.headers,
                priority=LAST_PRIORITY.get(self.connection.transport.driver_type, 0),
                serializer="json",
                delivery_mode="transient",
                **message.properties,
            )

    def _wait_until_empty(self, queue: str) -> None:
        """Return when a marker pushes no message out of a queue with a limit: its consumers only receive."""
        deadline = monotonic() + SETTLE_TIMEOUT
        with self.connection.channel() as channel:
            while channel.queue_declare(queue, passive=True).message_count and monotonic() < deadline:
                self._check_alive()

    def _on_events(self, body: Any, _message: KombuMessage) -> None:
        # A worker with an event loop sends what it gathered in one turn as a list.
        for event in body if isinstance(body, list) else [body]:
            if not self._streams.is_new(event):
                continue
            self._seen.meet(event)
            if event["type"] == ENDED:
                self._seen.ends.append(End(event["name"], event["queue"], frozenset(event["happened"])))
                continue
            receipt = Receipt.from_event(event)
            if receipt.task != MARKER:
                self._receipts.append(receipt)
                self._seen.receipts.append(receipt)
            elif receipt.task_id in self._markers:
                # Nothing is published here: a confirm would be waited for within the wait for something else.
                if self._round.received(receipt):
                    self._pace = FIRST_PACE
                else:
                    self._due.append(receipt.queue)

    def _on_task_events(self, body: Any, _message: KombuMessage) -> None:
        """How tasks end in a worker that runs them, by Celery's own events."""
        for event in body if isinstance(body, list) else [body]:
            self._seen.note(event)


def _exists(connection: Connection, queue: str) -> bool:
    """Whether the broker has this queue, whosever it is."""
    try:
        with connection.channel() as channel:
            channel.queue_declare(queue, passive=True)
    except ChannelError as error:
        return bool(error.reply_code != NotFound.code)
    return True


def _refuse_unmarkable(queue: str, arguments: Mapping[str, Any]) -> None:
    for name in ("x-max-length", "x-max-length-bytes"):
        if name in arguments:
            raise FleetError(
                f"queue {queue!r} has {name}={arguments[name]}: a marker could push a message out of it, so who "
                "received what cannot be proven with a worker that consumes it"
            )
    ttl = arguments.get("x-message-ttl")
    if ttl is not None and ttl < SETTLE_TIMEOUT * 1000:
        raise FleetError(
            f"queue {queue!r} has x-message-ttl={ttl:.0f}: a marker could expire in it, so who received what cannot be "
            "proven with a worker that consumes it"
        )
