"""One task, all the way: what Celery publishes for it, which queues that reaches and why, and who consumes them.

way.py       the publication, and what is declared around it
arrivals.py  the queues in which the message ends
remarks.py   what a reader wouldn't expect
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from celery import Celery

from waybill.celery_app import installed
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.names import is_delayed
from waybill.celery_app.neighbours import Neighbour, neighbours
from waybill.celery_app.options import Option
from waybill.celery_app.publication import Publication, message_of
from waybill.errors import UnknownName
from waybill.explain import remarks
from waybill.explain.arrivals import Arrival, arrival, is_acknowledged_early
from waybill.explain.way import Call, Way, way_of
from waybill.rabbitmq.state import LiveFacts
from waybill.routing import Router
from waybill.routing.walk import Trace, plain
from waybill.topology import Binding, Message

__all__ = ["Arrival", "Explanation", "explain_task"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole way of one task.

    Attributes:
        options: what decided the publication, with its source.
        remarks: what Celery does with the options and a reader wouldn't expect.
        delivered: with Celery's native delay, the way from the exchange to which the delay leads; None without.
        arrivals: the queues in which the message ends, after any native delay.
    """

    publication: Publication
    options: tuple[Option, ...]
    remarks: tuple[str, ...]
    trace: Trace
    delivered: Trace | None
    arrivals: tuple[Arrival, ...]

    def to_json(self) -> dict[str, Any]:
        sent = self.publication
        return {
            "task": sent.task,
            "exchange": sent.exchange,
            "routing_key": sent.routing_key,
            "headers": plain(dict(sent.headers)),
            "priority": sent.priority,
            "expiration": sent.expiration,
            "options": [option.to_json() for option in self.options],
            "remarks": list(self.remarks),
            **self.trace.to_json(),
            "delivered": None if self.delivered is None else self.delivered.to_json(),
            "arrivals": [arrival.to_json() for arrival in self.arrivals],
        }


def explain_task(
    app: Celery,
    task: str,
    call: Mapping[str, Any] | None = None,
    fleet: Fleet | str | Path | None = None,
    *,
    calls_handlers: bool = False,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    is_foreign: bool = False,
    name: str | None = None,
    others: Iterable[Neighbour | str] = (),
    live: LiveFacts | None = None,
) -> Explanation:
    """Say where `task.apply_async(**call)` would go, and why.

    Nothing is published and nobody is connected to: Celery's own code makes the message, the engine routes it by what
    the application declares.

    Args:
        task: the task's name. One that isn't registered, and has a route or options, is published as by `send_task`.
        call: options of `apply_async`.
        args, kwargs: the task's own arguments, for routers that look at them.
        is_foreign: explain a name that is neither registered nor routed, too.
        fleet: the `docker-compose.yml` or `Procfile` of the workers, to say who consumes; without it nobody is named.
        name: the application as `celery -A` takes it, for error lines; by default its own name.
        others: other applications of the vhost, as `celery -A` takes them: what they declare is there, too.
        live: what exists on the broker. The message is then routed by that and by what the application declares, with
            the broker's policies.
        calls_handlers: call the application's handlers of `before_task_publish`, which may change the message; without
            it a remark names them.

    Raises:
        UnknownName: the application has no such task, queue or exchange.
        TopologyError: RabbitMQ would refuse the publication, or what the publication declares.

    Example:
        >>> from celery import Celery
        >>> from kombu import Exchange, Queue
        >>> from waybill import explain_task
        >>> app = Celery("shop")
        >>> app.conf.task_queues = [Queue("usa", Exchange("news", "topic"), "usa.#")]
        >>> @app.task(name="shop.report")
        ... def report(): ...
        >>> found = explain_task(app, "shop.report", {"exchange": "news", "routing_key": "usa.sports"})
        >>> found.trace.queues
        ('usa',)
        >>> explain_task(app, "shop.report", {"exchange": "news", "routing_key": "eu.sports"}).trace.is_unroutable
        True
    """
    given = list(others)
    beside = [one for one in given if isinstance(one, Neighbour)]
    beside += neighbours([one for one in given if isinstance(one, str)], app=app)
    if isinstance(fleet, str | Path):
        consumed = {one.name: one.consumed for one in beside}
        fleet = read_fleet(Path(fleet), app=app, name=name, others=consumed, allow_duplicate_names=True)
    called = f"the application {name or app.main!r}" if name or app.main else "the application"
    asked = Call(task, call or {}, args, kwargs)
    way = way_of(app, asked, fleet, name, beside, live, calls_handlers=calls_handlers)
    if task not in app.tasks and not (is_foreign or _is_routed(way, asked, beside)):
        raise UnknownName("task", task, app.tasks, called)
    _check_publication(way, called)
    message = message_of(way.sent)
    trace = way.router.trace(message)
    # After the delay the message enters there with the key that it was published with.
    delivered = _after_the_delay(way.router, message) if is_delayed(way.sent.exchange) else None
    is_early = is_acknowledged_early(app, task)
    return Explanation(
        publication=way.sent,
        options=way.options,
        remarks=(
            *remarks.unregistered(app, task, called, beside),
            *remarks.created(way.known, way.declared, way.sent),
            *remarks.surprises(way.options, way.sent, trace, way.router, is_live=live is not None),
            *remarks.refusals(way.refused),
            *remarks.direct(way.sent, trace, fleet),
            *(remarks.beyond(way.ours, live, delivered or trace) if live else ()),
            *remarks.other_broker(app),
            *remarks.handlers(task, calls_handlers),
            *way.warnings,
        ),
        trace=trace,
        delivered=delivered,
        arrivals=tuple(
            arrival(way.router, way.router.queues[queue], way.existing, trace, fleet, is_early)
            for queue in (delivered or trace).queues
        ),
    )


def _is_routed(way: Way, call: Call, others: Iterable[Neighbour]) -> bool:
    """Whether a task that isn't registered is meant: it has options or a route, or another application has it."""
    by_route = any("task_routes" in option.source for option in way.options)
    return bool(call.options) or by_route or any(call.task in other.tasks for other in others)


def _check_publication(way: Way, called: str) -> None:
    """Refuse what RabbitMQ would: the publication's own declarations, and an exchange that isn't there."""
    own = {way.sent.exchange, *(queue.name for queue in way.sent.declares)}
    for item, refusal in way.refused:
        if not isinstance(item, Binding) and item.name in own:
            raise refusal
    if way.sent.exchange not in way.router.exchanges:
        raise UnknownName("exchange", way.sent.exchange, filter(None, way.router.exchanges), called)


def _after_the_delay(router: Router, message: Message) -> Trace:
    trace = router.trace(replace(message, exchange=installed.DELAYED_DELIVERY_EXCHANGE))
    return replace(trace, root=replace(trace.root, reached_by="after the delay"))
