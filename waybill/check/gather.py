"""An application as facts. Celery is asked for each publication; nothing is sent and nobody is connected to."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType
from typing import Any

from celery import Celery, bootsteps
from celery.app import backends
from celery.app.task import Context
from kombu import Connection
from kombu.entity import Queue as KombuQueue

from waybill.celery_app import installed, publication
from waybill.celery_app.broker_url import broker_of
from waybill.celery_app.calls.project import INSTALLED
from waybill.celery_app.calls.reading import read_source
from waybill.celery_app.calls.scheduled import retry_delay, scheduled_calls
from waybill.celery_app.calls.values import DELAY, Call
from waybill.celery_app.declared import Recorder, declare_on_router, direct_queues, record
from waybill.celery_app.fleet.workers import Unread
from waybill.celery_app.handlers import before_publish_handlers
from waybill.celery_app.names import is_delayed
from waybill.celery_app.neighbours import Neighbour
from waybill.celery_app.options import no_new_queues, options_of
from waybill.celery_app.private import decorator_options
from waybill.celery_app.publication import Publication, message_of
from waybill.check.facts import BUILTIN, AppFacts, Facts, FleetFacts, Sent, StepFacts, TaskFacts
from waybill.check.workers import concurrency, fleet_facts, prefetch_multiplier
from waybill.errors import InputError, RouterFailed, TopologyError
from waybill.rabbitmq.state import LiveFacts
from waybill.routing import Router
from waybill.topology import DEFAULT_VHOST, Message

MAX_PRIORITY = 255
"""The highest that AMQP's basic properties carry: a byte."""

# Celery's own tasks that applications cause to be published: the end of a chord, and the cleaning up of results.
PUBLISHED_BUILTINS = ("celery.chord_unlock", "celery.backend_cleanup")


def gather(
    app: Celery,
    *,
    name: str | None = None,
    fleet: Sequence[Path] = (),
    ignored: Collection[str] = (),
    others: Sequence[Neighbour] = (),
    live: LiveFacts | None = None,
    rabbitmq: tuple[int, int] | None = None,
) -> Facts:
    """All that a check reads: of the application, the fleet, the applications beside it, and the broker.

    Raises:
        InputError: the fleet or a setting can't be read.
    """
    workers, beside = fleet_facts(fleet, app, name, ignored, others) if fleet else (None, tuple(others))
    version = rabbitmq or (live.version if live else None)
    known = facts_of(app, live, workers, beside)
    if workers is not None and known.source.consumes:
        more = [Unread(path, "its code consumes queues by itself", path) for path in known.source.consumes]
        workers = replace(workers, unread=(*workers.unread, *more))
    return Facts(known, workers, live, version, name or app.main or "")


def facts_of(
    app: Celery,
    live: LiveFacts | None = None,
    workers: FleetFacts | None = None,
    others: tuple[Neighbour, ...] = (),
) -> AppFacts:
    """All that the rules read of an application that is loaded and finalized.

    Args:
        live: the broker whose policies and default queue type hold for what is declared.
        workers: those of the application; with `worker_direct` each has a queue of its own.
        others: other applications of the vhost.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Celery's of attributes that it has deprecated: they are read here, not set
        return _facts(app, live, workers, others)


def _facts(app: Celery, live: LiveFacts | None, workers: FleetFacts | None, others: tuple[Neighbour, ...]) -> AppFacts:
    with no_new_queues(app):
        recorder = record(app, more=direct_queues(app, workers.fleet) if workers else ())
        declared = dict(app.amqp.queues)
    connection = broker_of(app)
    router = live.empty_router() if live else Router(connection.virtual_host or DEFAULT_VHOST)
    refused = recorder.declare_on(router)
    for other in others:
        refused += declare_on_router(router, other)
    tasks = {name: _task(app, name) for name in sorted(app.tasks)}
    source = read_source(app)
    calls = (*source.calls, *scheduled_calls(app))
    with no_new_queues(app):
        known = {*declared, *(queue.name for other in others for queue in other.queues)}
        celery = _Celery(app, known, connection)
        asked = tuple(_publications(celery, calls, source.defined, others))
        # With a queue that it creates as a quorum queue a worker declares the native delay, too.
        created = [queue for name, queue in app.amqp.queues.items() if name not in declared]
        is_native = installed.delays_natively(app)
        if is_native and created:
            _create_delay(app, router, created)
        sent = tuple(_ended(router, one) for one in asked)
        delayed = {one.task: one for one in _delayed(celery, sent)} if is_native else {}
        retried = tuple(_retried(celery, sent, tasks))
    app.conf.finalize()
    return AppFacts(
        name=app.main or "the application",
        conf=app.conf,
        given={name: value for layer in reversed(app.conf.maps[:-1]) for name, value in layer.items()},
        prefix=app.conf.prefix or "",
        prefetch_multiplier=prefetch_multiplier(app),
        concurrency=concurrency(app),
        transport=str(connection.transport_cls or "amqp"),
        listed=_listed(app, declared),
        declared=declared,
        exchanges=tuple(recorder.exchanges),
        queues=tuple(recorder.queues),
        bindings=tuple(recorder.bindings),
        refused=refused,
        router=router,
        tasks=tasks,
        sent=sent,
        delayed={task: _ended(router, one) for task, one in delayed.items()},
        retried=tuple((first, _ended(router, again)) for first, again in retried),
        calls=calls,
        source=source,
        handlers=before_publish_handlers(dict.fromkeys((*tasks, *(call.task for call in calls)))),
        backend_error=_backend_error(app),
        steps=tuple(_steps(app)),
        others=others,
    )


def _steps(app: Celery) -> Iterator[StepFacts]:
    """The bootsteps that consume by themselves. Their code is read, not called: it's the application's own."""
    for step in app.steps["consumer"]:
        if not inspect.isclass(step) or not issubclass(step, bootsteps.ConsumerStep):
            continue
        consumers = inspect.unwrap(getattr(step, "get_consumers", bootsteps.ConsumerStep))
        if not inspect.isfunction(consumers):
            continue
        code, known = consumers.__code__, consumers.__globals__
        values: list[Any] = [getattr(step, name, known.get(name)) for name in code.co_names]
        listed = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
        names = {one.name for one in listed if isinstance(one, KombuQueue)}
        texts = {one for one in code.co_consts if isinstance(one, str)}
        yield StepFacts(step.__name__, frozenset(names | texts), _place(code))


def _backend_error(app: Celery) -> str:
    """Why Celery can't import the class of the result backend; the backend itself is not made, which may connect."""
    try:
        backends.by_url(app.conf.result_backend, app.loader)
    except Exception as error:
        return " ".join(str(error).split())
    return ""


def _listed(app: Celery, declared: Mapping[str, Any]) -> tuple[Any, ...]:
    queues = app.conf.task_queues or ()
    # In a mapping a queue may stand as the options that Celery makes it of.
    return tuple(declared[name] for name in queues) if isinstance(queues, Mapping) else tuple(queues)


@dataclass(frozen=True, slots=True)
class _Celery:
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


def _publications(
    celery: _Celery, calls: Iterable[Call], defined: Set[str], others: Iterable[Neighbour]
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


def _delayed(celery: _Celery, sent: Iterable[Sent]) -> Iterator[Sent]:
    """Every task with a countdown, by the routing that its decorator and `task_routes` give it."""
    for one in sent:
        if not one.where and one.publication is not None:
            yield celery.sent(one.task, {"countdown": DELAY})


def _retried(celery: _Celery, sent: Iterable[Sent], tasks: Mapping[str, TaskFacts]) -> Iterator[tuple[Sent, Sent]]:
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


def _ended(router: Router, sent: Sent) -> Sent:
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


def _create_delay(app: Celery, router: Router, queues: Sequence[KombuQueue]) -> None:
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


def _task(app: Celery, name: str) -> TaskFacts:
    task = app.tasks[name]
    conf = app.conf
    limit = task.time_limit or conf.task_time_limit
    retries = _retries(task)
    return TaskFacts(
        name=name,
        options={option: value for option, value in decorator_options(task).items() if value is not None},
        retries=retries,
        max_retries=task.max_retries,
        retry_delay=retry_delay(task) if retries else 0.0,
        acks_late=bool(conf.task_acks_late if task.acks_late is None else task.acks_late),
        reject_on_worker_lost=bool(
            conf.task_reject_on_worker_lost if task.reject_on_worker_lost is None else task.reject_on_worker_lost
        ),
        ignore_result=bool(conf.task_ignore_result if task.ignore_result is None else task.ignore_result),
        time_limit=float(limit) if limit else None,
        where=_where(task),
        rejects=_names(task, "Reject"),
        is_librarys=bool(INSTALLED & set(Path(getattr(inspect.getmodule(task.run), "__file__", None) or "").parts)),
    )


def _retries(task: Any) -> bool:
    """Whether its code names `retry`, or Celery has wrapped it for `autoretry_for`."""
    return hasattr(task, "_orig_run") or _names(task, "retry")


def _names(task: Any, name: str) -> bool:
    """Whether the code of an application's own task names something."""
    run = getattr(task, "_orig_run", task.run)
    code = getattr(inspect.unwrap(run), "__code__", None)
    return code is not None and name in (*code.co_names, *code.co_varnames) and not _is_celerys(task)


def _is_celerys(task: Any) -> bool:
    return str(task.name).startswith(BUILTIN)


def _where(task: Any) -> str:
    return _place(getattr(inspect.unwrap(task.run), "__code__", None))


def _place(code: CodeType | None) -> str:
    if code is None or code.co_filename.startswith("<"):
        return ""
    path = Path(code.co_filename)
    here = Path(os.getcwd())
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{code.co_firstlineno}"
