"""An application as facts. Celery is asked for each publication; nothing is sent and nobody is connected to."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import Any

from celery import Celery, bootsteps
from celery.app import backends
from kombu.entity import Queue as KombuQueue

from waybill.celery_app import installed
from waybill.celery_app.broker_url import broker_of
from waybill.celery_app.calls.project import INSTALLED
from waybill.celery_app.calls.reading import read_source
from waybill.celery_app.calls.scheduled import retry_delay, scheduled_calls
from waybill.celery_app.declared import declare_on_router, direct_queues, record
from waybill.celery_app.fleet.workers import Unread
from waybill.celery_app.handlers import before_publish_handlers
from waybill.celery_app.neighbours import Neighbour
from waybill.celery_app.options import no_new_queues
from waybill.celery_app.private import decorator_options
from waybill.check import publications
from waybill.check.facts import BUILTIN, AppFacts, Facts, FleetFacts, StepFacts, TaskFacts
from waybill.check.workers import concurrency, fleet_facts, prefetch_multiplier
from waybill.rabbitmq.state import LiveFacts
from waybill.routing import Router
from waybill.topology import DEFAULT_VHOST


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
        celery = publications.Asked(app, known, connection)
        asked = tuple(publications.publications(celery, calls, source.defined, others))
        # With a queue that it creates as a quorum queue a worker declares the native delay, too.
        created = [queue for name, queue in app.amqp.queues.items() if name not in declared]
        is_native = installed.delays_natively(app)
        if is_native and created:
            publications.create_delay(app, router, created)
        sent = tuple(publications.ended(router, one) for one in asked)
        delayed = {one.task: one for one in publications.delayed(celery, sent)} if is_native else {}
        retried = tuple(publications.retried(celery, sent, tasks))
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
        delayed={task: publications.ended(router, one) for task, one in delayed.items()},
        retried=tuple((first, publications.ended(router, again)) for first, again in retried),
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
