"""What the rules read: the application, the fleet and the live broker as values. gather.py and live.py fill them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from waybill.celery_app.calls.values import Call, Source
from waybill.celery_app.fleet.workers import Fleet, Unread, Worker
from waybill.celery_app.names import BROADCAST_PREFIX, MARKER, is_delayed
from waybill.celery_app.neighbours import Neighbour, declared_by_fleet
from waybill.celery_app.options import Option
from waybill.celery_app.publication import Publication, message_of
from waybill.errors import TopologyError
from waybill.rabbitmq.state import LiveFacts
from waybill.routing import Router
from waybill.routing.trace import Trace
from waybill.topology import PREDECLARED, Binding, Exchange, Queue

BUILTIN = ("celery.", MARKER)
"""How the names begin of Celery's own tasks, and of the one that `enable_receipts` registers."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A registered task.

    Attributes:
        options: what its decorator says of its publication.
        retries: its code calls `retry`, or it has `autoretry_for`.
        rejects: its code names `Reject`.
        max_retries: None for ever.
        retry_delay, time_limit: in seconds.
        where: `file:line` of its function.
        is_librarys: it is defined by an installed package, not by the project.
    """

    name: str
    options: Mapping[str, Any]
    retries: bool
    max_retries: int | None
    retry_delay: float
    acks_late: bool
    reject_on_worker_lost: bool
    ignore_result: bool
    time_limit: float | None
    where: str = ""
    rejects: bool = False
    is_librarys: bool = False

    @property
    def is_builtin(self) -> bool:
        return self.name.startswith(BUILTIN)


@dataclass(frozen=True, slots=True)
class StepFacts:
    """A bootstep of the application that consumes by itself (`celery.bootsteps.ConsumerStep`).

    Attributes:
        queues: the names of the queues that its code uses, and other texts in it.
        where: `file:line` of its `get_consumers`.
    """

    name: str
    queues: frozenset[str]
    where: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A publication that the application is known to make.

    Attributes:
        call: the options of the call; empty for `delay()`.
        where: `file:line` of the call in the code, or the entry of `beat_schedule`; empty where no call was read.
        publication: None when Celery's own code fails on it, as `refusal` says.
        options: what decided, and who said so.
        created: queues that come to be only with it.
        queues: where it ends, after a native delay; None where its exchange doesn't exist.
        is_choice: an exchange on the way chooses by what isn't known offline: `queues` are its candidates.
        is_unrouted: a router of the application's fails on it: whether it does in earnest isn't known.
    """

    task: str
    call: Mapping[str, Any]
    where: str
    publication: Publication | None
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    created: tuple[str, ...] = ()
    queues: tuple[str, ...] | None = ()
    is_unrouted: bool = False
    is_choice: bool = False

    def option(self, name: str) -> Option | None:
        """The option of that name with who set it, where anybody did."""
        return next((option for option in self.options if option.name == name), None)

    @property
    def published(self) -> Publication:
        """The publication, where there is one."""
        assert self.publication is not None
        return self.publication


@dataclass(frozen=True, slots=True)
class AppFacts:
    """The application.

    Attributes:
        conf: Celery's settings, to read.
        given: what the application itself set, under the names that it used.
        prefix: what its settings' names begin with (`CELERY_`), or empty.
        prefetch_multiplier, concurrency: the workers' settings as numbers; None where the concurrency isn't set to one.
        transport: Kombu's name for the kind of broker, such as `amqp`.
        listed: the queues of `task_queues`, in order, as they were given; empty without the setting.
        declared: name -> Kombu's queue, as Celery knows it before anything is published.
        exchanges, queues, bindings: all that is declared, in the order in which Kombu does.
        refused: the declarations that RabbitMQ refuses.
        router: what it does not refuse, and the queues that the publications create.
        sent: `delay()` of every task, and the calls that were read in the code.
        delayed: task -> the same with a countdown; empty when Celery has no native delay here.
        retried: publications of tasks that retry, each with the one that a retry makes of it.
        source: what of the project's source was read.
        handlers: of `before_task_publish`, for any of these tasks, as `module.name`; none of them was called.
        backend_error: why the result backend's class can't be imported; empty where it can.
        steps: the bootsteps that consume by themselves.
        others: other applications of the vhost; what they declare is in the router.
    """

    name: str
    conf: Any
    given: Mapping[str, Any]
    prefix: str
    prefetch_multiplier: int
    concurrency: int | None
    transport: str
    listed: tuple[Any, ...]
    declared: Mapping[str, Any]
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    refused: tuple[tuple[Exchange | Queue | Binding, TopologyError], ...]
    router: Router
    tasks: Mapping[str, TaskFacts]
    sent: tuple[Sent, ...]
    delayed: Mapping[str, Sent]
    retried: tuple[tuple[Sent, Sent], ...]
    calls: tuple[Call, ...] = ()
    source: Source = field(default_factory=Source)
    handlers: tuple[str, ...] = ()
    backend_error: str = ""
    steps: tuple[StepFacts, ...] = ()
    others: tuple[Neighbour, ...] = ()

    @property
    def quorum_queues(self) -> tuple[str, ...]:
        """The quorum queues by name; with one, Celery delays natively."""
        return tuple(queue.name for queue in self.queues if queue.type == "quorum" and not is_delayed(queue.name))

    def own_tasks(self) -> Iterator[TaskFacts]:
        """The tasks that aren't Celery's."""
        return (task for task in self.tasks.values() if not task.is_builtin)

    def is_unasked(self, task: str) -> bool:
        """Whether a task is an installed library's, and nothing in the project sends it: perhaps nobody ever does."""
        return task in self.tasks and self.tasks[task].is_librarys and task not in {call.task for call in self.calls}

    def publications(self) -> Iterator[Sent]:
        """What is published, of the application's own tasks, where Celery can make it."""
        return (sent for sent in self.sent if sent.publication is not None and not sent.task.startswith(BUILTIN))

    def trace(self, sent: Sent) -> Trace:
        """The way of a publication, with the reasons."""
        return self.router.trace(message_of(sent.published))


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """The workers as they are described.

    Attributes:
        tasks: application as `-A` names it -> the tasks that its workers know; only for those that were asked.
        unread: the services that may run a worker too.
        unloaded: application of other workers that can't be loaded -> the reason.
        is_of_others: no worker of it runs the application that is checked.
    """

    workers: tuple[Worker, ...]
    tasks: Mapping[str, frozenset[str]]
    unread: tuple[Unread, ...] = ()
    unloaded: Mapping[str, str] = field(default_factory=dict)
    is_of_others: bool = False

    @property
    def fleet(self) -> Fleet:
        """The workers as the readers of fleets give them."""
        return Fleet(self.workers, self.unread)

    @property
    def not_read(self) -> str:
        """What of the fleet isn't known, for a sentence; empty where all of it is."""
        return ", ".join(map(str, self.unread))

    def consumers(self, queue: str, alias: str | None = None) -> tuple[Worker, ...]:
        """The workers that consume a queue, by its name or alias; that of a Broadcast is in its name."""
        return self.fleet.consuming({queue, alias or queue.removeprefix(BROADCAST_PREFIX)}).workers


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known.

    Attributes:
        version: of RabbitMQ, major and minor: as given, or as the broker says.
        called: the application as `-A` takes it; empty where nobody said.
    """

    app: AppFacts
    fleet: FleetFacts | None = None
    live: LiveFacts | None = None
    version: tuple[int, int] | None = None
    called: str = ""

    def nobody_declares(self, exchange: str) -> bool:
        """Whether an exchange stands in the application and nobody makes it.

        A worker declares the queues that it consumes with their exchanges, a publisher the queue that it names, and no
        worker of the fleet and no publication that is known comes to a queue of this one.
        """
        exists = exchange in PREDECLARED or (self.live is not None and exchange in self.live.exchanges)
        of_it = [queue for queue in self.app.declared.values() if exchange in _exchanges_of(queue)]
        theirs = [other for other in self.app.others if _names(other, exchange)]
        if exists or not (of_it or theirs) or self._may_be_made_elsewhere():
            return False
        made = any(_names(declared_by_fleet(other, self.fleet.fleet), exchange) for other in theirs if self.fleet)
        return not made and all(map(self._is_made_by_none, of_it))

    def is_made_by_none(self, queue: str) -> bool:
        """Whether a queue stands in the application and nobody makes it; as `nobody_declares`."""
        declared = self.app.declared.get(queue)
        return declared is not None and self._is_made_by_none(declared)

    def _is_made_by_none(self, queue: Any) -> bool:
        if self.fleet is None or self._may_be_made_elsewhere():
            return False
        named = {one.name for sent in self.app.publications() for one in sent.published.declares}
        return queue.name not in named and not self.fleet.consumers(queue.name, queue.alias)

    def _may_be_made_elsewhere(self) -> bool:
        """Whether a worker that isn't known may declare something, or the application's own code."""
        fleet = self.fleet
        return fleet is None or bool(fleet.unread) or fleet.is_of_others or self.app.source.declares

    def has(self, need: str) -> bool:
        """Whether what a rule needs is known."""
        if need == "fleet":
            return self.fleet is not None and bool(self.fleet.workers)
        return getattr(self, need) is not None


def _names(other: Neighbour, exchange: str) -> bool:
    """Whether another application declares an exchange."""
    return any(one.name == exchange for one in other.exchanges)


def _exchanges_of(queue: Any) -> set[str]:
    """The exchanges that Kombu declares with a queue."""
    bound = [one.exchange for one in queue.bindings or () if one.exchange]
    return {one.name for one in (queue.exchange, *bound) if one}
