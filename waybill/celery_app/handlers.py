"""The application's handlers of the signals that Celery sends when it publishes: their names, and how to call none.

A handler of `before_task_publish` may change a message's headers, and with them its route. `after_task_publish`, and
`task_sent`, its older name, say that the message was published. Who only asks where a task would go must call neither.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from celery.signals import after_task_publish, before_task_publish, task_sent
from celery.utils.dispatch.signal import Signal

# The method in which a signal looks up whom to call: a private name of Celery's, the same in 5.3 to 5.7.
RECEIVERS = "_live_receivers"

# What Celery sends when it has published; who asks for a route never sends it.
PUBLISHED = (after_task_publish, task_sent)

_silent: ContextVar[frozenset[int]] = ContextVar("signals that call nobody", default=frozenset())
_lock = threading.Lock()
_depth: dict[int, int] = {}


def before_publish_handlers(tasks: Iterable[str]) -> tuple[str, ...]:
    """The handlers of `before_task_publish` that a publication of one of these tasks calls, as `module.name`.

    A watch listens, too, and changes nothing.
    """
    found = (name_of(handler) for task in tasks for handler in getattr(before_task_publish, RECEIVERS)(task))
    return tuple(dict.fromkeys(name for name in found if not name.startswith("waybill.")))


def name_of(handler: Any) -> str:
    """A handler as its code names it: `proj.signals.stamp`."""
    if isinstance(handler, partial):
        return name_of(handler.func)
    if getattr(handler, "__module__", None) == Signal.__module__:  # connected with `retry=True`: it stands in a closure
        cells = (cell.cell_contents for cell in getattr(handler, "__closure__", None) or ())
        return next((name_of(one) for one in cells if callable(one)), handler.__qualname__)
    named = handler if hasattr(handler, "__qualname__") else type(handler)
    return f"{named.__module__}.{named.__qualname__}"


@contextmanager
def silenced(*signals: Signal) -> Iterator[None]:
    """These signals call nobody within the block.

    This holds for the block's own thread (or greenlet) only: what other threads publish meanwhile calls its handlers.
    Handlers stay connected all the while, and may be connected and disconnected.
    """
    with ExitStack() as stack:
        for signal in signals:
            stack.enter_context(_looked_up_by_us(signal))
        token = _silent.set(_silent.get() | {id(signal) for signal in signals})
        try:
            yield
        finally:
            _silent.reset(token)


@contextmanager
def _looked_up_by_us(signal: Signal) -> Iterator[None]:
    """Within the block, of whichever thread, a signal asks `_silent` before it looks up its handlers.

    The list of handlers isn't touched: a thread that comes in between gets what it would have got without us.
    """
    own = vars(signal)
    with _lock:
        _depth[id(signal)] = depth = _depth.get(id(signal), 0) + 1
        if depth == 1:
            own[RECEIVERS] = _unless_silent(signal, getattr(signal, RECEIVERS))
    try:
        yield
    finally:
        with _lock:
            _depth[id(signal)] -= 1
            if not _depth[id(signal)]:
                del own[RECEIVERS]  # behind it is the class's


def _unless_silent(signal: Signal, look_up: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    return lambda sender: [] if id(signal) in _silent.get() else look_up(sender)
