"""Other applications of the vhost, as values: what they declare and which tasks they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from celery import Celery

from waybill.celery_app.apart import apart
from waybill.celery_app.broker_url import broker_of
from waybill.celery_app.declared import record
from waybill.celery_app.fleet.command_line import consumed
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.loading import load_application
from waybill.celery_app.options import no_new_queues
from waybill.errors import InputError
from waybill.topology import Binding, Exchange, Queue


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another application.

    Attributes:
        name: as `-A` names it.
        broker: `amqp://host:port/vhost`, without user and password.
        tasks: the names of its tasks.
        consumed: the queues that a worker of it consumes without `-Q`.
        exchanges, queues, bindings: what its workers declare.
    """

    name: str
    broker: str
    tasks: frozenset[str]
    consumed: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


def declared_by_fleet(other: Neighbour, fleet: Fleet | None) -> Neighbour:
    """The application with those of its declarations that a worker of the fleet makes; without a fleet with all."""
    if fleet is None:
        return other
    queues = tuple(queue for queue in other.queues if fleet.may_declare(queue.name))
    names = {queue.name for queue in queues}
    bindings = tuple(one for one in other.bindings if one.destination in names or one.destination_type == "exchange")
    sources = {binding.source for binding in bindings}
    exchanges = tuple(exchange for exchange in other.exchanges if exchange.name in sources)
    return replace(other, exchanges=exchanges, queues=queues, bindings=bindings)


def neighbours(
    names: Iterable[str], folders: Sequence[Path] = (), app: Celery | None = None, called: str = "the application"
) -> tuple[Neighbour, ...]:
    """The applications of these names, each loaded in a process of its own.

    Args:
        folders: where their modules are looked for first.
        app, called: the application beside which they are looked at, and its name: it has the same broker.

    Raises:
        InputError: one can't be loaded, or has another broker or vhost.
    """
    found = tuple(apart(describe, name, folders) for name in dict.fromkeys(names))
    if app is not None:
        ours = address_of(app)
        for one in found:
            if one.broker != ours:
                raise InputError(
                    f"{called} is on {ours}, and {one.name} on {one.broker}: expected one broker and vhost for all; "
                    "look at each by itself"
                )
    return found


def describe(name: str, folders: Sequence[Path]) -> Neighbour:
    """Load an application into this process, and tell what others need to know of it.

    Raises:
        InputError: it can't be loaded.
    """
    app = load_application(name, folders)
    with no_new_queues(app):
        recorder = record(app)
        own = consumed(app, None, None, "celery@%h") if not app.conf.worker_direct else ()
    return Neighbour(
        name,
        address_of(app),
        frozenset(app.tasks),
        own or tuple(app.amqp.queues),
        tuple(recorder.exchanges),
        tuple(recorder.queues),
        tuple(recorder.bindings),
    )


def address_of(app: Celery) -> str:
    """The broker of an application as `amqp://host:port/vhost`.

    Raises:
        InputError: its URL can't be used.
    """
    broker = broker_of(app)
    vhost = (broker.virtual_host or "").strip("/")
    return f"{broker.transport_cls or 'amqp'}://{broker.hostname}:{broker.port}/{vhost}"
