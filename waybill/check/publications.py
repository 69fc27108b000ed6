"""What an application publishes: Celery is asked for each task and each call that was read, and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery
from celery.app.task import Context
from kombu import Connection
from kombu.entity import Queue as KombuQueue

from waybill.celery_app import installed, publication
from waybill.celery_app.calls.values import DELAY, Call
from waybill.celery_app.declared import Recorder
from waybill.celery_app.names import is_delayed
from waybill.celery_app.neighbours import Neighbour
from waybill.celery_app.options import options_of
from waybill.celery_app.publication import Publication, message_of
from waybill.check.facts import BUILTIN, Sent, TaskFacts
from waybill.errors import InputError, RouterFailed, TopologyError
from waybill.routing import Router
from waybill.topology import Message

MAX_PRIORITY = 255
"""The highest that AMQP's basic properties carry: a byte."""

# Celery's own tasks that applications cause to be published: the end of a chord, and the cleaning up of results.
PUBLISHED_BUILTINS = ("celery.chord_unlock", "celery.backend_cleanup")


@dataclass(frozen=True, slots=True)
class Asked:
    """Celery's own code, asked what it would publish.

    Attributes:
        declared: the names of the queues that there are before anything is published.
        broker: the application's, not connected.
    """

    app: Celery
    declared: Set[str]
    broker: Connection

    def sent(
        self,
        task: str,
        call: Mapping[str, Any],
        where: str = "",
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Sent:
        """What a call publishes, or why it fails."""
        try:
            published, warned = publication.capture(self.app, task, args, kwargs, broker=self.broker, **call)
            options = tuple(options_of(self.app, task, call, args, kwargs))
            _check_writable(published)
        except RouterFailed as error:
            return Sent(task, call, where, None, str(error), is_unrouted=True)
        except InputError as error:
            return Sent(task, call, where, None, str(error))
        created = tuple(queue.name for queue in published.declares if queue.name not in self.declared)
        return Sent(task, call, where, published, "", warned, options, created)


def publications(
    celery: Asked, calls: Iterable[Call], defined: Set[str], others: Iterable[Neighbour]
) -> Iterator[Sent]:
    tasks = celery.app.tasks
    elsewhere = {task for other in others for task in other.tasks}
    for task in sorted(tasks):
        if not task.startswith(BUILTIN) or task in PUBLISHED_BUILTINS:
            yield celery.sent(task, {})
    # A thousand calls are often a few: Celery is asked once for each.
    asked: dict[str, Sent] = {}
    for call in calls:
        if call.task not in tasks and call.task in defined - elsewhere:
            continue  # of an application that isn't known, or of a module that this one doesn't load
        if call.options or call.args or call.kwargs or call.task not in tasks:
            key = repr((call.task, sorted(call.options.items()), call.args, call.kwargs))
            if key not in asked:
                asked[key] = celery.sent(call.task, call.options, call.where, call.args or (), call.kwargs)
                yield asked[key]


def delayed(celery: Asked, sent: Iterable[Sent]) -> Iterator[Sent]:
    """Every task with a countdown, by the routing that its decorator and `task_routes` give it."""
    for one in sent:
        if not one.where and one.publication is not None:
            yield celery.sent(one.task, {"countdown": DELAY})


def retried(celery: Asked, sent: Iterable[Sent], tasks: Mapping[str, TaskFacts]) -> Iterator[tuple[Sent, Sent]]:
    """How `retry` publishes again what came by these publications."""
    for one in sent:
        known = tasks.get(one.task)
        if one.publication is None or known is None or not known.retries:
            continue
        info = {
            "exchange": one.publication.exchange,
            "routing_key": one.publication.routing_key,
            "priority": one.publication.priority,
            "redelivered": False,
        }
        request = Context(id="waybill", args=[], kwargs={}, headers=dict(one.publication.headers), delivery_info=info)
        again = celery.app.tasks[one.task].signature_from_request(
            request, (), {}, countdown=known.retry_delay, retries=1
        )
        yield one, celery.sent(one.task, dict(again.options), one.where)


def _check_writable(sent: Publication) -> None:
    """Refuse what the client can't write: it packs a priority into one byte, and headers into AMQP's types.

    Raises:
        InputError: the priority isn't a whole number of 0 to 255, or a header has no such type.
    """
    message_of(sent)
    given: object = sent.priority
    if given is not None and not (isinstance(given, int) and 0 <= given <= MAX_PRIORITY):
        raise InputError(f"priority: expected a whole number of 0 to {MAX_PRIORITY}, got {given!r}")


def ended(router: Router, sent: Sent) -> Sent:
    """The publication with the queues in which it ends; queues that it creates come to be in the router."""
    if sent.publication is None:
        return sent
    for queue in sent.publication.declares:
        _create(router, queue)
    message = _delivered(sent.publication)
    if message.exchange not in router.exchanges:
        return replace(sent, queues=None)
    queues = router.route_key(message.exchange, message.routing_key, message.headers)
    return replace(sent, queues=queues, is_choice=not router.trace(message).is_certain)


def create_delay(app: Celery, router: Router, queues: Sequence[KombuQueue]) -> None:
    """Declare the exchanges and queues of the native delay, and bind these queues to them."""
    recorder = Recorder()
    for queue in queues:
        recorder.declare(queue)
    installed.declare_delayed_delivery(recorder, queues, app.conf.broker_native_delayed_delivery_queue_type)
    _declare(router, recorder)


def _create(router: Router, queue: KombuQueue) -> None:
    if queue.name in router.queues:
        return
    recorder = Recorder()
    recorder.declare(queue)
    _declare(router, recorder)


def _declare(router: Router, recorder: Recorder) -> None:
    try:
        for exchange in recorder.exchanges:
            router.declare_exchange(exchange)
        for made in recorder.queues:
            router.declare_queue(made)
        for binding in recorder.bindings:
            router.bind(binding)
    except TopologyError:
        return  # the declarations say it already, or the publication ends nowhere


def _delivered(sent: Publication) -> Message:
    """The message as it is routed after any native delay."""
    message = message_of(sent)
    return replace(message, exchange=installed.DELAYED_DELIVERY_EXCHANGE) if is_delayed(message.exchange) else message
