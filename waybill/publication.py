"""What Celery really publishes for a task and its options.

Celery is asked, not imitated: its own router and message builder run, for the installed version, and hand their result
to a producer that notes it. Which producer decides whether anything is sent: `capture` notes and sends nothing,
`publish` notes and sends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

from amqp.exceptions import NotFound
from celery import Celery
from celery.exceptions import QueueNotFound
from celery.result import denied_join_result
from kombu import Connection, Exchange, Producer

from waybill.errors import InputError, UnknownName


@dataclass(frozen=True, slots=True)
class Publication:
    """One task message, as it is handed to the broker.

    Attributes:
        exchange, routing_key: where it is published; the exchange `""` is the default exchange.
        headers: all of them, Celery's own included.
        priority, expiration: as published, None without.
        task, task_id: the name and the id of the task.
        is_returned: True when it was sent mandatory and the broker returned it, since no queue took it.
    """

    exchange: str
    routing_key: str
    headers: Mapping[str, Any]
    priority: int | None
    expiration: float | None
    task: str
    task_id: str
    is_returned: bool = False


# What Kombu publishes where nobody says anything: a priority of 0, among others.
_DEFAULTS = {name: parameter.default for name, parameter in signature(Producer.publish).parameters.items()}


class _Recorder(Producer):
    """A producer that notes what it is told to publish, and sends it when it is live."""

    def __init__(self, connection: Connection, is_live: bool, **kwargs: Any) -> None:
        super().__init__(connection, auto_declare=False, on_return=self._on_return, **kwargs)
        self.is_live = is_live
        self.noted: list[tuple[str, str, dict[str, Any]]] = []
        self.is_returned = False

    def _on_return(self, *_: object) -> None:
        # RabbitMQ sends the return before it confirms, so it's here when a confirmed publish comes back.
        self.is_returned = True

    def publish(self, body: Any, routing_key: str | None = None, exchange: Any = None, **kwargs: Any) -> Any:
        name = exchange.name if isinstance(exchange, Exchange) else exchange
        self.noted.append((name or "", routing_key or "", {**_DEFAULTS, **kwargs}))
        if not self.is_live:
            return None
        return super().publish(body, routing_key=routing_key, exchange=exchange, **kwargs)


def capture(
    app: Celery, task: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
) -> tuple[Publication, tuple[str, ...]]:
    """What `apply_async(args, kwargs, **options)` would publish. Nothing is sent and nobody is connected to.

    Celery's own signals (`before_task_publish`, `after_task_publish`) are sent, as in a publication.

    Returns:
        The publication, and what Celery warned of while it was made.

    Raises:
        UnknownName: `queue` names no queue of the application.
        InputError: Celery's own code fails on these options.
    """
    recorder = _Recorder(app.connection_for_write(), is_live=False)
    # A result backend subscribes to the result before the task is published, unless nobody may wait for it.
    with denied_join_result(), _any_arguments(app, task), _warnings() as warnings:
        try:
            sent = _apply(recorder, app, task, args, kwargs, options)
        except (KeyError, TypeError, ValueError) as error:
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
        amqp.exceptions.AMQPError: the broker refuses for another reason.
    """
    with connection.channel() as channel:
        recorder = _Recorder(channel, is_live=True)
        try:
            return _apply(recorder, app, task, args, kwargs, {"mandatory": True, "retry": False, **options})
        except NotFound as error:
            exchange = recorder.noted[0][0]
            known = {queue.exchange.name for queue in app.amqp.queues.values()}
            raise UnknownName("exchange", exchange, known, f"vhost {connection.virtual_host!r}") from error


@contextmanager
def _any_arguments(app: Celery, task: str) -> Iterator[None]:
    """Where a task goes doesn't depend on its arguments, so they needn't be right within the block."""
    registered = app.tasks.get(task)
    if registered is None:
        yield
        return
    typing, registered.typing = registered.typing, False
    try:
        yield
    finally:
        registered.typing = typing


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What Celery's code logs as a warning within the block, each in one line, and nowhere else."""
    logger = logging.getLogger("celery.app.base")
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(" ".join(record.getMessage().split()))  # type: ignore[method-assign]
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


def _apply(
    recorder: _Recorder,
    app: Celery,
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Publication:
    try:
        if task in app.tasks:
            app.tasks[task].apply_async(args, kwargs, producer=recorder, **options)
        else:
            app.send_task(task, args, kwargs, producer=recorder, **options)
    except QueueNotFound as error:
        raise UnknownName("queue", str(options.get("queue")), app.amqp.queues, "the application") from error
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
    )
