"""One task, all the way: what Celery publishes for it, which queues that reaches and why, and who consumes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from celery import Celery
from celery.utils.nodenames import WORKER_DIRECT_EXCHANGE

from waybill.celery_app import installed, publication
from waybill.celery_app.broker_url import broker_of
from waybill.celery_app.declared import declare_on_router, direct_queues, record
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.handlers import before_publish_handlers
from waybill.celery_app.names import is_delayed
from waybill.celery_app.neighbours import Neighbour, declared_by_fleet, neighbours
from waybill.celery_app.options import Option, no_new_queues, options_of
from waybill.celery_app.publication import Publication, message_of
from waybill.errors import TopologyError, UnknownName
from waybill.rabbitmq.state import LiveFacts
from waybill.routing import Router
from waybill.routing.dead_letters import DeadLettering, Reason
from waybill.routing.walk import Trace, plain
from waybill.topology import Binding, Exchange, Message, Queue


@dataclass(frozen=True, slots=True)
class Arrival:
    """A queue that the message reaches.

    Attributes:
        consumers: the workers that consume it; None when that isn't known, without a fleet or with one that couldn't
            be read as a whole.
        unconsumed: where the message goes when nobody takes it: it expires, is rejected, or stays.
        again: where a dead letter goes when it leaves a dead-letter queue, and so on.
        resting: dead-letter queue -> the workers that consume it; None where that isn't known.
    """

    queue: Queue
    level: int
    consumers: tuple[str, ...] | None
    unconsumed: tuple[DeadLettering, ...]
    notes: tuple[str, ...]
    again: tuple[DeadLettering, ...] = ()
    resting: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "queue": self.queue.name,
            "type": self.queue.type,
            "priority": self.level,
            "workers": None if self.consumers is None else list(self.consumers),
            "dead_letters": [letter.to_json() for letter in self.unconsumed],
            "second_deaths": [letter.to_json() for letter in self.again],
            "dead_letter_queues": {
                name: None if workers is None else list(workers) for name, workers in self.resting.items()
            },
            "notes": list(self.notes),
        }


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
    call = call or {}
    given = list(others)
    beside = [one for one in given if isinstance(one, Neighbour)]
    beside += neighbours([one for one in given if isinstance(one, str)], app=app)
    if isinstance(fleet, str | Path):
        consumed = {one.name: one.consumed for one in beside}
        fleet = read_fleet(Path(fleet), app=app, name=name, others=consumed, allow_duplicate_names=True)
    called = f"the application {name or app.main!r}" if name or app.main else "the application"
    with no_new_queues(app):
        declared = dict(app.amqp.queues)
        sent, warnings = publication.capture(app, task, args, kwargs, calls_handlers=calls_handlers, **call)
        options = tuple(options_of(app, task, call, args, kwargs))
        # A delayed publication goes to another exchange, and Celery makes the queue that it is for all the same.
        created = [queue for one, queue in app.amqp.queues.items() if one not in declared]
        published = (*sent.declares, *created, *direct_queues(app, fleet))
        workers = fleet.of(name) if fleet else None
        router, existing = Router(), Router()
        refused = [*record(app, more=published).declare_on(router)]
        record(app, workers, published).declare_on(existing)
    for other in beside:
        refused += declare_on_router(router, other)
        declare_on_router(existing, declared_by_fleet(other, fleet))
    ours = router
    if live is not None:
        router, existing = live.with_declared(router), live.with_declared(existing)
    is_routed = bool(call) or any("task_routes" in option.source for option in options)
    if task not in app.tasks and not (is_foreign or is_routed or any(task in one.tasks for one in beside)):
        raise UnknownName("task", task, app.tasks, called)
    own = {sent.exchange, *(queue.name for queue in sent.declares)}
    for item, refusal in refused:
        if not isinstance(item, Binding) and item.name in own:
            raise refusal
    if sent.exchange not in router.exchanges:
        raise UnknownName("exchange", sent.exchange, filter(None, router.exchanges), called)
    message = message_of(sent)
    trace = router.trace(message)
    # After the delay the message enters there with the key that it was published with.
    delivered = _after_the_delay(router, message) if is_delayed(sent.exchange) else None
    is_early = _is_acknowledged_early(app, task)
    return Explanation(
        publication=sent,
        options=options,
        remarks=(
            *_unregistered(app, task, called, beside),
            *_created({**declared, **{queue.name: None for one in beside for queue in one.queues}}, sent),
            *_remarks(options, sent, trace, router, is_live=live is not None),
            *_refusals(refused),
            *_direct(sent, trace, fleet),
            *(_beyond(ours, live, delivered or trace) if live else ()),
            *_other_broker(app),
            *_handlers(task, calls_handlers),
            *warnings,
        ),
        trace=trace,
        delivered=delivered,
        arrivals=tuple(
            _arrival(router, router.queues[queue], existing, trace, fleet, is_early)
            for queue in (delivered or trace).queues
        ),
    )


def _unregistered(app: Celery, task: str, called: str, others: Iterable[Neighbour]) -> Iterator[str]:
    """On a task that the application doesn't know: somebody else's, or a misspelling."""
    if task in app.tasks:
        return
    if owners := [one.name for one in others if task in one.tasks]:
        yield f"{', '.join(owners)} registers it: this is where {called} sends it by send_task"
    else:
        yield f"{called} registers no such task: this is where send_task publishes it{_hint(task, app.tasks)}"


def _created(declared: Mapping[str, Any], sent: Publication) -> Iterator[str]:
    """On the queues that come to be only with this publication."""
    known = [getattr(queue, "alias", None) or name for name, queue in declared.items()]
    for queue in sent.declares:
        if queue.name not in declared:
            created = f"the application doesn't declare `{queue.name}`: Celery creates it with this publication"
            yield created + _hint(queue.name, known)


def _refusals(refused: Iterable[tuple[Exchange | Queue | Binding, TopologyError]]) -> Iterator[str]:
    """On declarations that RabbitMQ refuses: what is told of the message holds without them."""
    for item, error in refused:
        what = f"binding of `{item.destination}`" if isinstance(item, Binding) else f"declaration of `{item.name}`"
        yield f"RabbitMQ refuses the {what}: {error.reply_code} {error}; it is left out here"


def _direct(sent: Publication, trace: Trace, fleet: Fleet | None) -> Iterator[str]:
    """On a message to the queue that a worker has of its own (`worker_direct`)."""
    if trace.is_unroutable and sent.exchange == WORKER_DIRECT_EXCHANGE.name and fleet is None:
        yield "only the worker whose node name is the routing key has a queue there: --fleet names the workers"


def _beyond(declared: Router, live: LiveFacts, trace: Trace) -> Iterator[str]:
    """On what of the way exists only on the broker, or only in the application."""
    known = set(declared.bindings)
    for visit in trace.visits():
        for binding in (attempt.binding for attempt in visit.matched):
            if visit.exchange and binding not in known:
                yield (
                    f"only on the broker: `{binding.destination}` is bound to `{binding.source}` with "
                    f"`{binding.binding_key}`, and the application doesn't declare this binding"
                )
    if missing := [queue for queue in trace.queues if queue not in live.queues]:
        names = ", ".join(f"`{name}`" for name in missing)
        yield f"not on the broker yet: {names}; this publication or a worker's start creates it"


def _hint(name: str, known: Iterable[str]) -> str:
    """The nearest of the names that are known, as the end of a sentence; empty where none is near."""
    nearest = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean `{nearest[0]}`?" if nearest else ""


def _handlers(task: str, are_called: bool) -> Iterator[str]:
    """On the handlers of `before_task_publish`, which may change the headers and with them the route."""
    if found := before_publish_handlers([task]):
        said = "called" if are_called else "not called, and they may change the headers (--signals calls them)"
        yield f"before_task_publish handlers {said}: {', '.join(found)}"


def _other_broker(app: Celery) -> Iterator[str]:
    transport = str(broker_of(app).transport_cls or "amqp")
    if "amqp" not in transport and "rabbit" not in transport:
        yield f"the application's broker is {transport}: what is told here holds for RabbitMQ only"


def _after_the_delay(router: Router, message: Message) -> Trace:
    trace = router.trace(replace(message, exchange=installed.DELAYED_DELIVERY_EXCHANGE))
    return replace(trace, root=replace(trace.root, reached_by="after the delay"))


def _remarks(
    options: tuple[Option, ...], sent: Publication, trace: Trace, router: Router, *, is_live: bool
) -> list[str]:
    given = {option.name: option for option in options}
    if is_delayed(sent.exchange):
        return [
            "the application has a quorum queue, so Celery hands the delay to RabbitMQ: the task is published to "
            f"`{sent.exchange}`, the delay in binary in front of its routing key, and arrives when it has passed"
        ]
    remarks = []
    if "countdown" in given:
        remarks.append(
            "the message is delivered at once, and waits in the worker that gets it until the countdown has passed"
            + _no_native_delay(router, sent)
        )
    exchange, key = given.get("exchange"), given.get("routing_key")
    if exchange and exchange.value and exchange.value != sent.exchange:
        declared = router.exchanges.get(exchange.value)
        # With the type Celery leaves an exchange as it is; of a direct one it takes an empty key for no exchange.
        has_other_type = declared is not None and declared.type != "direct"
        remarks.append(
            f"exchange={exchange.value!r} from {exchange.source} is ignored: without a routing key Celery sends to the "
            f"queue `{sent.routing_key}`; give `routing_key`{' or `exchange_type`' if has_other_type else ''}"
        )
    if key and key.value and key.value != sent.routing_key:
        remarks.append(
            f"routing_key={key.value!r} from {key.source} is ignored: the queue hangs on a direct exchange, and Celery "
            "takes the default exchange with the queue's name instead; give `exchange` too"
        )
    if trace.is_unroutable:
        unknown = "; the broker's policies, of which one may name an alternate exchange, aren't known here"
        remarks.append(
            "it reaches no queue: RabbitMQ drops it, or returns it to a publisher that asks for `mandatory`"
            + ("" if is_live else unknown)
        )
    return remarks


def _no_native_delay(router: Router, sent: Publication) -> str:
    """What a later Celery would do with a countdown, where the installed one leaves it to the worker."""
    has_quorum = any(queue.type == "quorum" for queue in router.queues.values())
    if installed.HAS_NATIVE_DELAY or not has_quorum or router.exchanges[sent.exchange].type == "direct":
        return ""
    return (
        f"; Celery {installed.CELERY_VERSION} has no native delayed delivery: from 5.5 on the delay is RabbitMQ's, "
        "since the application has a quorum queue"
    )


def _is_acknowledged_early(app: Celery, task: str) -> bool:
    """Whether a worker acknowledges the task before it runs; nothing is said of one that isn't registered here."""
    known = app.tasks.get(task)
    if known is None:
        return False
    return not (app.conf.task_acks_late if known.acks_late is None else known.acks_late)


def _arrival(
    router: Router, queue: Queue, existing: Router, trace: Trace, fleet: Fleet | None, is_early: bool
) -> Arrival:
    """What becomes of the message in a queue.

    Args:
        existing: what the publication and the workers declare; that of which nobody consumes a queue isn't there.
        is_early: the task is acknowledged before it runs, so that there is nothing left to reject.
    """
    if queue.name not in existing.queues:
        return Arrival(queue, queue.level_of(trace.message.priority), (), (), (_UNMADE,))
    consumers = _consumers(fleet, queue.name)
    reasons = _reasons(queue, is_early=is_early, expires=trace.message.expiration is not None)
    letters = tuple(existing.dead_letters(queue.name, trace.message, reason) for reason in reasons)
    lost = {one.exchange for one in letters if one.exchange in router.exchanges} - existing.exchanges.keys()
    early = (_EARLY,) if is_early and queue.dead_letter_exchange is not None else ()
    notes = (*_notes(queue, trace), *_perhaps(fleet, consumers), *early, *(_NOT_MADE.format(name) for name in lost))
    again = tuple(_again(existing, letters, is_early))
    reached = dict.fromkeys(name for letter in (*letters, *again) for one in _steps(letter) for name in one.queues)
    resting = {name: _consumers(fleet, name) for name in reached}
    return Arrival(queue, queue.level_of(trace.message.priority), consumers, letters, notes, again, resting)


def _consumers(fleet: Fleet | None, queue: str) -> tuple[str, ...] | None:
    """The workers of a queue; None where there may be one that isn't known."""
    found = () if fleet is None else fleet.consumers(queue)
    return found if found or (fleet is not None and fleet.is_complete) else None


def _reasons(queue: Queue, *, is_early: bool, expires: bool = False) -> list[Reason]:
    """Why a message may leave a queue without being acknowledged."""
    reasons: list[Reason] = [] if is_early else ["rejected"]
    if queue.setting("message-ttl") is not None or expires:
        reasons.append("expired")
    if queue.setting("max-length") is not None or queue.setting("max-length-bytes") is not None:
        reasons.append("maxlen")
    if queue.type == "quorum":
        reasons.append("delivery_limit")
    return reasons


def _steps(letter: DeadLettering) -> Iterator[DeadLettering]:
    """A dead-lettering, and those that follow by themselves."""
    yield letter
    for onward in letter.onward:
        yield from _steps(onward)


def _again(router: Router, letters: Iterable[DeadLettering], is_early: bool) -> Iterator[DeadLettering]:
    """The second deaths of dead letters, and so on: each way out of a queue once."""
    waiting, seen = [one for letter in letters for one in _steps(letter)], set[tuple[str, Reason]]()
    while waiting:
        letter = waiting.pop(0)
        for name in letter.queues:
            queue = router.queues[name]
            if queue.dead_letter_exchange is None or letter.message is None:
                continue
            for reason in _reasons(queue, is_early=is_early):
                if reason == "expired" or (name, reason) in seen:  # that follows by itself
                    continue
                seen.add((name, reason))
                found = router.dead_letters(name, letter.message, reason, letter.deaths, letter.routing_keys)
                yield found
                waiting += _steps(found)


def _perhaps(fleet: Fleet | None, consumers: tuple[str, ...] | None) -> Iterator[str]:
    if fleet is not None and consumers is None:
        unread = ", ".join(map(str, fleet.unread))
        yield f"no worker that could be read consumes it; perhaps one of these does: {unread}"


_EARLY = "acknowledged before it runs (acks_late is off): neither `Reject` nor a failure makes it a dead letter"
_NOT_MADE = (
    "nobody declares `{}`: it stands in the application, and no worker of the fleet consumes a queue of it; "
    "`waybill declare` declares it"
)
_UNMADE = (
    "no worker of the fleet declares it, since none consumes it, and neither does this publication: unless somebody "
    "else has (`waybill declare`), the message is dropped"
)


def _notes(queue: Queue, trace: Trace) -> list[str]:
    return [*_unconsumable(queue), *_priority_notes(queue, trace)]


def _unconsumable(queue: Queue) -> Iterator[str]:
    if queue.type == "quorum" and not installed.DETECTS_QUORUM_QUEUES:
        yield (
            f"a worker of Celery {installed.CELERY_VERSION} can't consume a quorum queue on RabbitMQ before 4.3 "
            "(540 does not support global qos); one of 5.5 and later can"
        )


def _priority_notes(queue: Queue, trace: Trace) -> list[str]:
    priority = trace.message.priority
    level = queue.level_of(priority)
    if not priority or priority == level:
        return []
    if queue.type == "classic" and queue.max_priority is None:
        return [f"priority {priority} has no effect: the queue has no x-max-priority"]
    return [f"priority {priority} counts as {level}, the queue's highest"]
