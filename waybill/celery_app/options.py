"""The options that decide where a task goes, and who set each: call, decorator, `task_routes`, defaults."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu.abstract import MaybeChannelBound

from waybill.celery_app.private import decorator_options
from waybill.topology.fields import plain

# The options that decide where a task goes, in the order in which they are told.
ROUTING_OPTIONS = ("queue", "exchange", "exchange_type", "routing_key", "priority", "expires", "countdown", "headers")

CALL = "the call"
DECORATOR = "the task's decorator"
DEFAULTS = "the defaults"
SETTINGS = "the settings"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the publication, and who set it.

    Attributes:
        source: the call, the task's decorator, an entry of `task_routes`, or the defaults.
    """

    name: str
    value: Any
    source: str

    def to_json(self) -> dict[str, Any]:
        return {"option": self.name, "value": plain(self.value), "source": self.source}


def options_of(
    app: Celery, task: str, call: Mapping[str, Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> list[Option]:
    """The options that decide, each with the first of those who set it: call, decorator, `task_routes`, defaults.

    A task that the application doesn't register, which `send_task` publishes, has no decorator.
    """
    known = app.tasks.get(task)
    given = decorator_options(known) if known is not None else {}
    decorated = {name: value for name, value in given.items() if value is not None}
    entry, routed = _route_of(app, task, {**decorated, **call}, args, kwargs or {})
    # Celery gives a task without a priority that of the settings when it registers it.
    priority = app.conf.task_default_priority
    set_by = f"{SETTINGS}: task_default_priority" if decorated.get("priority") == priority is not None else DECORATOR
    found = []
    for name in ROUTING_OPTIONS:
        layers = ((call, CALL), (decorated, set_by if name == "priority" else DECORATOR), (routed, entry))
        for layer, source in layers:
            if name in layer:
                # Celery takes Kombu's queues and exchanges as well as their names.
                value = layer[name].name if isinstance(layer[name], MaybeChannelBound) else layer[name]
                found.append(Option(name, value, source))
                break
    if not any(option.name in ("queue", "exchange") for option in found):
        found.insert(0, Option("queue", app.conf.task_default_queue, f"{DEFAULTS}: task_default_queue"))
    return found


def _route_of(
    app: Celery, task: str, options: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """The entry of `task_routes` that takes this task, by name, and what it says."""
    router = app.amqp.router
    options = router.expand_destination(dict(options))  # as a router gets them from Celery
    for number, route in enumerate(app.amqp.routes):
        said = router.query_router(route, task, args, kwargs, options, app.tasks.get(task))
        if said is not None:
            return _entry_name(app, route, task, number), {"queue": said} if isinstance(said, str) else dict(said)
    return "task_routes", {}


def _entry_name(app: Celery, route: Any, task: str, number: int) -> str:
    if task in getattr(route, "map", ()):
        return f"task_routes[{task!r}]"
    for pattern in getattr(route, "patterns", ()):
        if pattern.match(task):
            return f"task_routes, pattern {_as_written(app, pattern)!r}"
    return f"task_routes, router {number + 1}: {_router_name(app, route, number)}"


def _router_name(app: Celery, route: Any, number: int) -> str:
    """A router's name: as the settings write it, where they name it by text, which Celery loads later."""
    routes = app.conf.task_routes
    written = routes[number] if isinstance(routes, list | tuple) and number < len(routes) else routes
    return written if isinstance(written, str) else str(getattr(route, "__name__", type(route).__name__))


def _as_written(app: Celery, pattern: re.Pattern[str]) -> str:
    """The glob in `task_routes` of which Celery keeps only the regular expression that `fnmatch` made."""
    routes = app.conf.task_routes
    for route in routes if isinstance(routes, list | tuple) else (routes,):
        keys = route if isinstance(route, Mapping) else (pair[0] for pair in route if isinstance(route, list | tuple))
        for key in keys:
            if isinstance(key, str) and fnmatch.translate(key) == pattern.pattern:
                return key
    return pattern.pattern


@contextmanager
def no_new_queues(app: Celery) -> Iterator[None]:
    """Take away again what Celery adds to the application's queues within the block (`task_create_missing_queues`)."""
    queues = app.amqp.queues
    before = set(queues)
    try:
        yield
    finally:
        for name in queues.keys() - before:
            del queues[name]
