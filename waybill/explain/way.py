"""A publication with all that is declared around it: by itself, by the application, by others, and on the broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from waybill.celery_app import publication
from waybill.celery_app.declared import Refused, declare_on_router, direct_queues, record
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.neighbours import Neighbour, declared_by_fleet
from waybill.celery_app.options import Option, no_new_queues, options_of
from waybill.celery_app.publication import Publication
from waybill.rabbitmq.state import LiveFacts
from waybill.routing import Router


@dataclass(frozen=True, slots=True)
class Call:
    """What is called, as `apply_async` takes it.

    Attributes:
        options: those of the call.
        args, kwargs: the task's own arguments.
    """

    task: str
    options: Mapping[str, Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Way:
    """A publication, and the declarations by which it is routed.

    Attributes:
        warnings: what Celery warned of while it made the message.
        options: what decided, and who said so.
        declared: the names of the queues that are declared without the publication.
        known: how these may be called: the names, or the aliases that stand for them.
        refused: the declarations that RabbitMQ refuses.
        ours: what the applications and the publication declare.
        router: the same, with what exists on the broker where that is known.
        existing: what of it is there when the workers have started: that of which nobody consumes a queue isn't.
    """

    sent: Publication
    warnings: tuple[str, ...]
    options: tuple[Option, ...]
    declared: frozenset[str]
    known: tuple[str, ...]
    refused: tuple[Refused, ...]
    ours: Router
    router: Router
    existing: Router


def way_of(
    app: Celery,
    call: Call,
    fleet: Fleet | None,
    name: str | None,
    others: Iterable[Neighbour],
    live: LiveFacts | None,
    *,
    calls_handlers: bool,
) -> Way:
    """Let Celery make the message, and gather what is declared around it; arguments as of `explain_task`."""
    others = tuple(others)
    with no_new_queues(app):
        declared = dict(app.amqp.queues)
        sent, warnings = publication.capture(
            app, call.task, call.args, call.kwargs, calls_handlers=calls_handlers, **call.options
        )
        options = tuple(options_of(app, call.task, call.options, call.args, call.kwargs))
        # A delayed publication goes to another exchange, and Celery makes the queue that it is for all the same.
        created = [queue for one, queue in app.amqp.queues.items() if one not in declared]
        published = (*sent.declares, *created, *direct_queues(app, fleet))
        ours, existing = Router(), Router()
        refused = record(app, more=published).declare_on(ours)
        record(app, fleet.of(name) if fleet else None, published).declare_on(existing)
    for other in others:
        refused += declare_on_router(ours, other)
        declare_on_router(existing, declared_by_fleet(other, fleet))
    theirs = [queue.name for other in others for queue in other.queues]
    return Way(
        sent,
        warnings,
        options,
        declared=frozenset((*declared, *theirs)),
        known=(*(queue.alias or one for one, queue in declared.items()), *theirs),
        refused=refused,
        ours=ours,
        router=ours if live is None else live.with_declared(ours),
        existing=existing if live is None else live.with_declared(existing),
    )
