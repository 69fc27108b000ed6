"""The topology that a Celery application, or Kombu's objects, would declare.

Kombu itself is asked: each queue and exchange is declared on a recording channel, so that what stands here
is what Kombu would have sent (arguments in RabbitMQ's units, exchanges it never declares left out). No
connection is opened.

- A `Broadcast` queue is named `bcast.<uuid>`, anew in each process; here it stands as `bcast.<alias>`, once,
  for the one that every worker has.
- With a quorum queue in the app, workers of Celery 5.5 and later also declare the exchanges and queues of Celery's
  native delayed delivery, and bind every queue to them; so does this, where the installed Celery does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from celery import Celery
from celery.utils.nodenames import WORKER_DIRECT_EXCHANGE, worker_direct
from kombu.common import Broadcast
from kombu.entity import Exchange as KombuExchange
from kombu.entity import Queue as KombuQueue
from kombu.entity import binding
from kombu.transport.base import to_rabbitmq_queue_arguments

from waybill.celery_app import installed
from waybill.celery_app.fleet.workers import Fleet
from waybill.errors import InputError, TopologyError
from waybill.routing import Router
from waybill.topology import (
    DEFAULT_EXCHANGE,
    DEFAULT_VHOST,
    PREDECLARED,
    Binding,
    Exchange,
    Queue,
    Topology,
)


def from_celery(app: Celery, others: Iterable[Declarations] = (), *, vhost: str = DEFAULT_VHOST) -> Topology:
    """The topology that `app`'s workers declare: its task queues, their exchanges and bindings.

    `task_queue_max_priority` and the default queue are applied by Celery itself, in its `app.amqp.queues`.
    What an application declares beside its queues, Celery has no place for. The setting
    `waybill_exchange_bindings`, a mapping from an exchange to the `kombu.binding`s that feed it, tells of it.

    Args:
        others: what other applications of the vhost declare.

    Raises:
        InputError: a setting holds no queues or bindings.
        TopologyError: RabbitMQ would refuse one of the declarations.
    """
    recorder = record(app)
    for other in others:
        recorder.exchanges += other.exchanges
        recorder.queues += other.queues
        recorder.bindings += other.bindings
    return recorder.topology(vhost)


def record(app: Celery, fleet: Fleet | None = None, more: Iterable[KombuQueue] = ()) -> Recorder:
    """The declarations that `from_celery` reads, in their order and unchecked.

    Args:
        fleet: only what its workers declare, which is the queues that they consume with their exchanges.
        more: queues that are declared in any case, such as those of a publication.
    """
    queues = [queue for queue in queues_of(app) if fleet is None or fleet.may_declare(queue.name, queue.alias)]
    recorder = Recorder()
    # By identity: a router may give a queue of a name that's declared otherwise, and RabbitMQ sees both.
    for queue in {id(one): one for one in (*queues, *direct_queues(app, fleet), *more)}.values():
        recorder.declare(queue)
    if app.conf.get("worker_direct"):
        recorder.declare_exchange(WORKER_DIRECT_EXCHANGE)
    for exchange, bindings in exchange_bindings(app).items():
        recorder.bind_exchange(exchange, bindings)
    if installed.delays_natively(app):
        installed.declare_delayed_delivery(recorder, queues, app.conf.broker_native_delayed_delivery_queue_type)
    return recorder


def direct_queues(app: Celery, fleet: Fleet | None) -> list[KombuQueue]:
    """With `worker_direct`, the queue that each worker has of its own: of those whose whole node name is known."""
    if fleet is None or not app.conf.get("worker_direct"):
        return []
    return [worker_direct(worker.node_name) for worker in fleet if "%" not in worker.node_name]


def queues_of(app: Celery) -> list[KombuQueue]:
    """The application's queues, as Celery makes them of its settings.

    Raises:
        InputError: it can make none of them.
    """
    try:
        queues = list(app.amqp.queues.values())
    except Exception as error:
        expected = "expected a list of kombu.Queue, or a mapping from names to their options"
        raise InputError(f"the setting task_queues: {expected}, got {app.conf.task_queues!r}") from error
    for queue in queues:
        for what, name in (("queue", queue.name), ("exchange", queue.exchange.name if queue.exchange else "")):
            if not isinstance(name, str):
                raise InputError(f"the application's queues: expected text for the name of the {what}, got {name!r}")
    return queues


def exchange_bindings(app: Celery) -> Mapping[KombuExchange, Iterable[binding]]:
    """The setting `waybill_exchange_bindings`: an exchange -> the bindings that feed it from other exchanges.

    Raises:
        InputError: it holds something else.
    """
    given = app.conf.get("waybill_exchange_bindings") or {}
    is_right = isinstance(given, Mapping) and all(
        isinstance(exchange, KombuExchange)
        and isinstance(sources, Iterable)
        and all(isinstance(source, binding) for source in sources)
        for exchange, sources in given.items()
    )
    if not is_right:
        expected = "expected a mapping from a kombu.Exchange to a list of kombu.binding"
        raise InputError(f"the setting waybill_exchange_bindings: {expected}, got {given!r}")
    return given


class Recorder:
    """A channel, and the connection it is of, that writes down what Kombu declares on it."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.queues: list[Queue] = []
        self.bindings: list[Binding] = []

    def topology(self, vhost: str) -> Topology:
        """What was declared, checked."""
        return Topology(self.exchanges, self.queues, self.bindings, vhost)

    def declare_on(self, router: Router) -> tuple[Refused, ...]:
        """Declare what was recorded on a router, as `declare_on_router` does."""
        return declare_on_router(router, self)

    def declare(self, queue: KombuQueue) -> None:
        """Declare a queue with its exchange and bindings.

        One that Kombu never declares (`no_declare`) is taken to be there, without bindings of ours.
        """
        unbound: Any = stable(queue)
        bound = unbound.bind(self)
        first = len(self.bindings)
        if bound.no_declare:
            bound.queue_declare()
        else:
            bound.declare()
        # Kombu keeps a list of bindings as a set: without an order of our own each run would show another.
        self.bindings[first:] = sorted(self.bindings[first:], key=repr)

    def declare_exchange(self, exchange: Any) -> None:
        """Declare an exchange; one that Kombu never declares is taken to be there as it is described."""
        if exchange.name == DEFAULT_EXCHANGE or exchange.name in PREDECLARED:
            return
        self.exchange_declare(
            exchange.name, exchange.type, exchange.durable, exchange.auto_delete, arguments=exchange.arguments
        )

    def bind_exchange(self, exchange: KombuExchange, sources: Iterable[binding]) -> None:
        """Declare an exchange, and the bindings that feed it from other exchanges."""
        self.declare_exchange(exchange)
        destination: Any = exchange
        for source in sources:
            self.declare_exchange(source.exchange)
            source.bind(destination(self))

    # What follows is called by Kombu, under the names and with the arguments of its channels.

    def channel(self) -> Recorder:
        return self

    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        prepared: dict[str, Any] = to_rabbitmq_queue_arguments(arguments, **options)
        return prepared

    def exchange_declare(
        self,
        exchange: str,
        type: str,
        durable: bool = True,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self.exchanges.append(Exchange(exchange, type, durable, auto_delete, arguments=arguments or {}))

    def queue_declare(
        self,
        queue: str,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> tuple[str, int, int]:
        self.queues.append(Queue(queue, durable, exclusive, auto_delete, arguments or {}))
        return queue, 0, 0

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self.bindings.append(Binding(exchange, queue, routing_key or "", arguments or {}))

    def exchange_bind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self.bindings.append(Binding(source, destination, routing_key or "", arguments or {}, "exchange"))


Refused: TypeAlias = tuple[Exchange | Queue | Binding, TopologyError]
"""A declaration, and how RabbitMQ refuses it."""


class Declarations(Protocol):
    """Exchanges, queues and bindings in the order in which they are declared."""

    @property
    def exchanges(self) -> Sequence[Exchange]: ...

    @property
    def queues(self) -> Sequence[Queue]: ...

    @property
    def bindings(self) -> Sequence[Binding]: ...


def declare_on_router(router: Router, declared: Declarations) -> tuple[Refused, ...]:
    """Declare everything on a router; what RabbitMQ would refuse of it, each with the refusal."""
    refused: list[Refused] = []
    steps: tuple[tuple[Iterable[Any], Callable[[Any], object]], ...] = (
        (declared.exchanges, router.declare_exchange),
        (declared.queues, router.declare_queue),
        (declared.bindings, router.bind),
    )
    for items, declare in steps:
        for item in items:
            try:
                declare(item)
            except TopologyError as error:
                refused.append((item, error))
    return tuple(refused)


def stable(queue: KombuQueue) -> KombuQueue:
    """A `Broadcast` queue with a random name as a plain one named `bcast.<alias>`; any other as it is."""
    if not isinstance(queue, Broadcast) or not is_random(queue.name):
        return queue
    fields: dict[str, Any] = {name: getattr(queue, name) for name, _ in KombuQueue.attrs}
    fields["name"] = f"{queue.name.rpartition('.')[0]}.{fields['alias'] or fields['exchange'].name}"
    plain: Any = KombuQueue
    named: KombuQueue = plain(**fields)
    return named


def is_random(name: str) -> bool:
    """Whether a name ends in a UUID, as those that `Broadcast` makes up do."""
    tail = name.rpartition(".")[2]
    return len(tail) == _UUID_LENGTH and tail.count("-") == 4


_UUID_LENGTH = 36
"""Characters of a UUID as text."""
