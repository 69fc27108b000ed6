"""The private names of Celery and Kombu that Waybill uses. No other file has one.

Each is what no public name gives, and may change with any release, so tests/unit/test_private_names.py asks for what it
does on every supported version:

    celery.app.defaults._TO_NEW_KEY   the names of settings before Celery 4, and what became of them
    app._pool                         the application's connections
    app.amqp._producer_pool           its producers, made when the first one is asked for
    app._backend_cache                its result backend, where threads share it
    app._local.backend                its result backend, of this thread
    task._get_exec_options            the options that its decorator gives
    consumer._active_tags             of a Kombu consumer: the name of each queue -> its consumer tag
    transport._callbacks              of a virtual transport: the name of each queue -> who is handed its messages
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery import Celery, Task
from celery.app.defaults import _TO_NEW_KEY
from kombu import Consumer
from kombu.transport import virtual

OLD_SETTINGS: Mapping[str, str] = dict(_TO_NEW_KEY)
"""The upper-case names that Celery's settings had -> the names that they have."""


@contextmanager
def replaced(attributes: dict[str, Any], ours: Mapping[str, Any]) -> Iterator[None]:
    """Attributes of an object, as `vars` has them, replaced within the block; what it hadn't it hasn't afterwards."""
    before = {name: attributes[name] for name in ours if name in attributes}
    attributes.update(ours)
    try:
        yield
    finally:
        for name in ours:
            attributes.pop(name, None)  # behind it is the class's
        attributes.update(before)


@contextmanager
def producers_replaced(app: Celery, pool: object, producer: object) -> Iterator[None]:
    """Within the block the application's pool of producers is this one, and its class of them.

    Args:
        producer: what makes a producer, in place of `app.amqp.Producer`.
    """
    with replaced(vars(app.amqp), {"_producer_pool": pool, "Producer": producer}):
        yield


@contextmanager
def result_backend_replaced(app: Celery, backend: object) -> Iterator[None]:
    """Within the block the application's result backend is this one."""
    with replaced(vars(app), {"_backend_cache": None}), replaced(vars(app._local), {"backend": backend}):
        yield


def made_producers(app: Celery) -> Any:
    """The application's pool of producers if it has made one, or else None; asking for it makes none."""
    return vars(app.amqp).get("_producer_pool")


def drop_pools(app: Celery) -> None:
    """Let the application forget its connections and producers; it makes new ones when it next needs them."""
    app._pool = app.amqp._producer_pool = None


def drop_result_backend(app: Celery) -> None:
    """Let the application forget its result backend; it makes one of its settings when it next needs it."""
    app._backend_cache = None
    vars(app._local).pop("backend", None)


def decorator_options(task: Task) -> Mapping[str, Any]:
    """The options of `apply_async` that the task's decorator gives; some are None."""
    options: Mapping[str, Any] = task._get_exec_options()
    return options


def tags_of(consumer: Consumer) -> Mapping[str, str]:
    """The name of each queue that is consumed -> its consumer tag."""
    tags: Mapping[str, str] = consumer._active_tags
    return tags


def wrap_callbacks(transport: virtual.Transport, wrap: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Put something in the place of what hands each message of a virtual transport to a callback of its queue."""
    transport._callbacks = wrap(transport._callbacks)
