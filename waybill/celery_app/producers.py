"""One thread's own producer in place of the application's, while its other threads keep theirs.

Several threads may have one at the same time, and a thread several, one within the other: the innermost counts. The
application's own pool comes back when the last of them has ended, in whatever order they end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery
from kombu import pools

from waybill.celery_app.private import made_producers, producers_replaced


@contextmanager
def producer_of_this_thread(app: Celery, producer: Any) -> Iterator[None]:
    """Whoever asks the application for a producer within the block, in its thread, gets this one.

    A task class may have an `apply_async` of its own that doesn't hand on the producer that it's given.
    """
    with _lock:
        pool = _pools.get(app)
        if pool is None:
            pool = _pools[app] = _Pool(app)
        pool.users += 1
    mine = pool.mine()
    mine.append(producer)
    try:
        yield
    finally:
        mine.pop()
        with _lock:
            pool.users -= 1
            if not pool.users:
                del _pools[app]
                pool.close()


class _Pool:
    """Stands for the application's pool of producers: a thread with a producer of its own gets that one."""

    def __init__(self, app: Celery) -> None:
        self.users = 0
        self._app = app
        self._before = made_producers(app)
        self._local = threading.local()
        self._replaced = ExitStack()
        make = app.amqp.Producer
        self._replaced.enter_context(
            producers_replaced(app, self, lambda *args, **kwargs: self._own() or make(*args, **kwargs))
        )

    def mine(self) -> list[Any]:
        """The producers of this thread, the innermost last."""
        try:
            found: list[Any] = self._local.producers
        except AttributeError:
            found = self._local.producers = []
        return found

    def _own(self) -> Any:
        mine = self.mine()
        return mine[-1] if mine else None

    def _others(self) -> Any:
        return self._before or pools.producers[self._app.connection_for_write()]  # as Celery makes it

    def acquire(self, *args: Any, **kwargs: Any) -> Any:
        return self._own() or self._others().acquire(*args, **kwargs)

    @property
    def connections(self) -> Any:
        """Asked for the kind of broker when a task has a countdown."""
        own = self._own()
        return SimpleNamespace(connection=own.connection) if own else self._others().connections

    def __getattr__(self, name: str) -> Any:
        return getattr(self._others(), name)

    def close(self) -> None:
        self._replaced.close()


_lock = threading.Lock()
_pools: WeakKeyDictionary[Celery, _Pool] = WeakKeyDictionary()
