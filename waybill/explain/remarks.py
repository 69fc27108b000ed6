"""What a reader of an explanation wouldn't expect, each in a sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

from celery import Celery
from celery.utils.nodenames import WORKER_DIRECT_EXCHANGE

from waybill.celery_app import installed
from waybill.celery_app.broker_url import broker_of
from waybill.celery_app.declared import Refused
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.handlers import before_publish_handlers
from waybill.celery_app.names import is_delayed
from waybill.celery_app.neighbours import Neighbour
from waybill.celery_app.options import Option
from waybill.celery_app.publication import Publication
from waybill.rabbitmq.state import LiveFacts
from waybill.routing import Router
from waybill.routing.walk import Trace
from waybill.topology import Binding


def unregistered(app: Celery, task: str, called: str, others: Iterable[Neighbour]) -> Iterator[str]:
    """On a task that the application doesn't know: somebody else's, or a misspelling."""
    if task in app.tasks:
        return
    if owners := [one.name for one in others if task in one.tasks]:
        yield f"{', '.join(owners)} registers it: this is where {called} sends it by send_task"
    else:
        yield f"{called} registers no such task: this is where send_task publishes it{_hint(task, app.tasks)}"


def created(known: Collection[str], declared: Collection[str], sent: Publication) -> Iterator[str]:
    """On the queues that come to be only with this publication.

    Args:
        known: how the declared queues may be called: the names, or the aliases that stand for them.
        declared: their names.
    """
    for queue in sent.declares:
        if queue.name not in declared:
            said = f"the application doesn't declare `{queue.name}`: Celery creates it with this publication"
            yield said + _hint(queue.name, known)


def refusals(refused: Iterable[Refused]) -> Iterator[str]:
    """On declarations that RabbitMQ refuses: what is told of the message holds without them."""
    for item, error in refused:
        what = f"binding of `{item.destination}`" if isinstance(item, Binding) else f"declaration of `{item.name}`"
        yield f"RabbitMQ refuses the {what}: {error.reply_code} {error}; it is left out here"


def direct(sent: Publication, trace: Trace, fleet: Fleet | None) -> Iterator[str]:
    """On a message to the queue that a worker has of its own (`worker_direct`)."""
    if trace.is_unroutable and sent.exchange == WORKER_DIRECT_EXCHANGE.name and fleet is None:
        yield "only the worker whose node name is the routing key has a queue there: --fleet names the workers"


def beyond(declared: Router, live: LiveFacts, trace: Trace) -> Iterator[str]:
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


def handlers(task: str, are_called: bool) -> Iterator[str]:
    """On the handlers of `before_task_publish`, which may change the headers and with them the route."""
    if found := before_publish_handlers([task]):
        said = "called" if are_called else "not called, and they may change the headers (--signals calls them)"
        yield f"before_task_publish handlers {said}: {', '.join(found)}"


def other_broker(app: Celery) -> Iterator[str]:
    transport = str(broker_of(app).transport_cls or "amqp")
    if "amqp" not in transport and "rabbit" not in transport:
        yield f"the application's broker is {transport}: what is told here holds for RabbitMQ only"


def surprises(
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
