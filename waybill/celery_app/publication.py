"""What Celery really publishes for a task and its options.

Celery is asked, not imitated: its own router and message builder run, for the installed version, and hand their result
to a producer that notes it. Which producer decides whether anything is sent: `capture` notes and sends nothing,
`publish` notes and sends. Neither runs a task, whatever `task_always_eager` says.

Of the application's own code, `capture` calls what decides the route: the routers in `task_routes`, a task class's
`apply_async` and `shadow_name`, and what an application overrides of Celery's `send_task`, `amqp` and `Router`. It
calls no result backend, and no handler of a signal but those of `before_task_publish` when it is told to.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from itertools import pairwise
from typing import Any

from amqp.exceptions import NotFound
from celery import Celery
from celery.backends.base import DisabledBackend
from celery.exceptions import QueueNotFound
from celery.result import denied_join_result
from celery.signals import before_task_publish
from kombu import Connection, Exchange, Producer, Queue
from kombu.transport import virtual

from waybill.celery_app.broker_url import broker_of
from waybill.celery_app.handlers import PUBLISHED, name_of, silenced
from waybill.celery_app.installed import settings_overridden
from waybill.celery_app.private import replaced, result_backend_replaced
from waybill.celery_app.producers import producer_of_this_thread
from waybill.errors import InputError, RouterFailed, UnknownName, WaybillError
from waybill.topology import Message
from waybill.topology.declarations import MAX_SHORTSTR


@dataclass(frozen=True, slots=True)
class Publication:
    """One task message, as it is handed to the broker.

    Attributes:
        exchange, routing_key: where it is published; the exchange `""` is the default exchange.
        headers: all of them, Celery's own included.
        priority, expiration: as published, None without.
        task, task_id: the name and the id of the task.
        is_returned: True when it was sent mandatory and the broker returned it, since no queue took it.
        declares: the queues, as Kombu has them, that Celery declares with the publication.
        confirm_timeout: seconds for which the broker's confirm is waited for; None for ever.
    """

    exchange: str
    routing_key: str
    headers: Mapping[str, Any]
    priority: int | None
    expiration: float | None
    task: str
    task_id: str
    is_returned: bool = False
    declares: tuple[Any, ...] = ()
    confirm_timeout: float | None = None


def message_of(sent: Publication) -> Message:
    """What of a publication decides where it goes."""
    # Celery gives seconds; on the wire it's milliseconds as text.
    expiration = None if sent.expiration is None else str(int(sent.expiration * 1000))
    return Message(sent.exchange, sent.routing_key, sent.headers, sent.priority, expiration)


def check_names(exchange: str, routing_key: str, headers: Mapping[str, Any]) -> None:
    """Refuse what doesn't fit into AMQP's short strings, as which these are written.

    Raises:
        InputError: a name or key has more than `MAX_SHORTSTR` bytes.
    """
    for what, text in (
        ("exchange", exchange),
        ("routing key", routing_key),
        *(("header name", name) for name in headers),
    ):
        # A character has four bytes at most.
        if len(text) * 4 > MAX_SHORTSTR and (size := len(text.encode("utf-8", "surrogatepass"))) > MAX_SHORTSTR:
            raise InputError(f"{what} of {size} bytes: AMQP carries {MAX_SHORTSTR} at most")


# What Kombu publishes where nobody says anything: a priority of 0, among others.
_DEFAULTS = {name: parameter.default for name, parameter in signature(Producer.publish).parameters.items()}


class _Recorder(Producer):
    """A producer that notes what it is told to publish, and sends it when it is live."""

    def __init__(self, connection: Connection, is_live: bool, **kwargs: Any) -> None:
        # Only AMQP returns messages: the channels of Kombu's virtual transports have no place to be told of it.
        on_return = None if isinstance(connection, virtual.Channel) else self._on_return
        super().__init__(connection, auto_declare=False, on_return=on_return, **kwargs)
        self.is_live = is_live
        self.noted: list[tuple[str, str, dict[str, Any]]] = []
        self.is_returned = False

    def _on_return(self, *_: object) -> None:
        # RabbitMQ sends the return before it confirms, so it's here when a confirmed publish comes back.
        self.is_returned = True

    def publish(self, body: Any, routing_key: str | None = None, exchange: Any = None, **kwargs: Any) -> Any:
        name = exchange.name if isinstance(exchange, Exchange) else exchange
        check_names(name or "", routing_key or "", kwargs.get("headers") or {})
        self.noted.append((name or "", routing_key or "", {**_DEFAULTS, **kwargs}))
        if not self.is_live:
            return None
        return super().publish(body, routing_key=routing_key, exchange=exchange, **kwargs)


# What a capture changes on an application it puts back in the opposite order: two of one application can't be mixed.
_one_at_a_time = threading.RLock()


def capture(
    app: Celery,
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    calls_handlers: bool = False,
    broker: Connection | None = None,
    **options: Any,
) -> tuple[Publication, tuple[str, ...]]:
    """What `apply_async(args, kwargs, **options)` would publish. Nothing is sent and nobody is connected to.

    Whatever other threads publish meanwhile is published, with all its signals.

    Args:
        calls_handlers: call the handlers of `before_task_publish`. Those of `after_task_publish` are never called.
        broker: the application's broker, not connected, where it is at hand: making it anew takes a fifth of the time.

    Returns:
        The publication, and what Celery warned of while it was made.

    Raises:
        UnknownName: `queue` names no queue of the application.
        InputError: Celery's own code fails on these options.
    """
    # Routers, handlers and task classes are the application's own code: whatever they raise is the answer.
    try:
        with _one_at_a_time, ExitStack() as stack:
            recorder = _Recorder(broker or broker_of(app), is_live=False)
            stack.enter_context(silenced(*PUBLISHED, *(() if calls_handlers else (before_task_publish,))))
            stack.enter_context(_any_arguments(app, task))
            stack.enter_context(producer_of_this_thread(app, recorder))
            stack.enter_context(_no_results(app))
            warnings = stack.enter_context(_warnings())
            sent = _apply(recorder, app, task, args, kwargs, options)
    except WaybillError:
        raise
    except Exception as error:
        if (router := _failed_router(error)) is not None:
            raise RouterFailed(
                f"the router {router} fails on {task!r} with args={tuple(args)!r}, kwargs={dict(kwargs or {})!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        raise InputError(
            f"Celery itself cannot publish {task!r} with these options: {type(error).__name__}: {error}"
        ) from error
    return sent, tuple(warnings)


def publish(
    app: Celery,
    connection: Connection,
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Publication:
    """Publish a task mandatory over this connection, and say what was published.

    A return is part of the answer and no error; with confirmed publishing it belongs to this very message.

    Raises:
        UnknownName: `queue` names no queue of the application, or the broker has no such exchange.
        InputError: a name is too long, or the task's own `apply_async` published nothing.
        amqp.exceptions.AMQPError: the broker refuses for another reason.
    """
    with connection.channel() as channel:
        recorder = _Recorder(channel, is_live=True)
        try:
            with denied_join_result():  # its result isn't subscribed to, which needs the backend
                return _apply(recorder, app, task, args, kwargs, {"mandatory": True, "retry": False, **options})
        except NotFound as error:
            exchange = recorder.noted[0][0]
            known = {queue.exchange.name for queue in app.amqp.queues.values()}
            raise UnknownName("exchange", exchange, known, f"vhost {connection.virtual_host!r}") from error


def _failed_router(error: BaseException) -> str | None:
    """The router of the application in which an error was raised; None where it was raised elsewhere.

    Celery calls it in `Router.query_router` (celery/app/routes.py), whose own frame comes just before.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    for (frame, _), (called, _) in pairwise(frames):
        if frame.f_code.co_name == "query_router" and "celery" not in called.f_globals.get("__name__", "").split("."):
            return f"{called.f_globals.get('__name__')}.{called.f_code.co_qualname}"
    return None


@contextmanager
def _any_arguments(app: Celery, task: str) -> Iterator[None]:
    """Where a task goes doesn't depend on its arguments, so they needn't be right within the block."""
    registered = app.tasks.get(task)
    if registered is None:
        yield
        return
    with replaced(vars(registered), {"typing": False}):
        yield


def _in_this_thread() -> Callable[[], bool]:
    """What says whether it's called in the thread in which it was made."""
    ours = threading.get_ident()
    return lambda: threading.get_ident() == ours


@contextmanager
def _no_results(app: Celery) -> Iterator[None]:
    """Within the block the application has no result backend.

    To make one may connect to its database and create tables there, and it is told of each publication.
    """
    with result_backend_replaced(app, DisabledBackend(app)):
        yield


@contextmanager
def _published_for_real(app: Celery) -> Iterator[None]:
    """Within the block a task is not run on the spot."""
    if not app.conf.task_always_eager:
        yield
        return
    with settings_overridden(app, {"task_always_eager": False}):
        yield


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What Celery's code logs as a warning within the block, in its thread: each in one line, and nowhere else."""
    heard: list[str] = []
    is_ours = _in_this_thread()

    def keep(record: logging.LogRecord) -> bool:
        if not is_ours() or record.levelno < logging.WARNING:
            return True
        heard.append(" ".join(_told(record).split()))
        return False

    loggers = [logging.getLogger(name) for name in ("celery.app.base", SIGNALS_LOGGER)]
    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield heard
    finally:
        for logger in loggers:
            logger.removeFilter(keep)


# Where Celery logs what a handler raised.
SIGNALS_LOGGER = "celery.utils.dispatch.signal"


def _told(record: logging.LogRecord) -> str:
    if record.name == SIGNALS_LOGGER and isinstance(record.args, tuple) and len(record.args) == 2:
        handler, error = record.args
        return f"{name_of(handler)} raised {error!r}: Celery logs that and publishes all the same"
    return record.getMessage()


def _apply(
    recorder: _Recorder,
    app: Celery,
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Publication:
    try:
        with _published_for_real(app):
            if task in app.tasks:
                app.tasks[task].apply_async(args, kwargs, producer=recorder, **options)
            else:
                app.send_task(task, args, kwargs, producer=recorder, **options)
    except QueueNotFound as error:
        missing = error.__context__  # the KeyError, which has the name: a decorator or a route may have given it
        name = missing.args[0] if isinstance(missing, KeyError) else options.get("queue")
        raise UnknownName("queue", str(name), app.amqp.queues, "the application") from error
    if not recorder.noted:
        how = " over the connection it was given" if recorder.is_live else ""
        raise InputError(f"nothing to tell of {task!r}: this task's own apply_async published nothing{how}")
    # The task comes first; with `task_send_sent_event` its event follows through the same producer.
    (exchange, routing_key, published) = recorder.noted[0]
    headers = published.get("headers") or {}
    return Publication(
        exchange=exchange,
        routing_key=routing_key,
        headers=headers,
        priority=published.get("priority"),
        expiration=published.get("expiration"),
        task=headers.get("task", task),
        task_id=published.get("correlation_id") or headers.get("id", ""),
        is_returned=recorder.is_returned,
        confirm_timeout=published.get("confirm_timeout"),
        declares=tuple(entity for entity in published.get("declare") or () if isinstance(entity, Queue)),
    )
