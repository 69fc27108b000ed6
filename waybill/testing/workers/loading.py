"""Loading modules once for all workers, and noting what of the process that depended on or changed."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder

# What a worker loads until it is ready, of Celery's and Kombu's own. Modules that a version lacks are skipped.
CELERY = (
    "celery.bin.celery",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.app.trace",
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.events.dispatcher",
    "celery.loaders.app",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.control",
    "celery.worker.strategy",
    "celery.worker.worker",
    "kombu.transport.pyamqp",
)


@dataclass
class Loading:
    """What has been loaded so far.

    Attributes:
        variables: the environment variables that were looked at.
        applications: the top-level names of the applications whose libraries were loaded.
        side_effects: what a fork would lose, share or see otherwise than a program of its own, in a few words.
    """

    variables: set[str] = field(default_factory=set)
    applications: set[str] = field(default_factory=set)
    side_effects: set[str] = field(default_factory=set)

    def load(self, names: Iterable[str], own: Iterable[str] = ()) -> None:
        """Load modules, none of them from the current folder.

        Args:
            own: the top-level names of the application's modules. What cannot be loaded without these is left to the
                workers.
        """
        self.applications.update(own)
        threads_and_files = _threads_and_files()
        with self._noting_variables(), _without_folder(), _hiding(frozenset(own)) as hidden:
            for name in names:
                with suppress(Exception, SystemExit):
                    hidden.asked.clear()
                    importlib.import_module(name)
                    # It can do without the application, and might do something else with it.
                    self.side_effects.update(f"{name} looks for {one}" for one in hidden.asked)
        if _threads_and_files() != threads_and_files:
            self.side_effects.add("threads or files of a library")
        gc.collect()
        gc.freeze()  # what is loaded stays in pages that the workers share

    @contextmanager
    def _noting_variables(self) -> Iterator[None]:
        plain = type(os.environ)
        os.environ.__class__ = _NotingEnvironment
        os.environ.asked, os.environ.listed = self.variables, deque()  # type: ignore[attr-defined]
        try:
            yield
        finally:
            del os.environ.asked, os.environ.listed  # type: ignore[attr-defined]
            os.environ.__class__ = plain


class _NotingEnvironment(type(os.environ)):  # type: ignore[misc]
    """The environment, noting which variables are asked for by name; a copy of all of it asks for none."""

    asked: set[str]
    listed: deque[str]

    def __iter__(self) -> Iterator[str]:
        names = list(super().__iter__())
        self.listed = deque(names)
        return iter(names)

    def __getitem__(self, name: str) -> str:
        if self.listed and self.listed[0] == name:
            self.listed.popleft()
        else:
            self.listed.clear()
            self.asked.add(name)
        value: str = super().__getitem__(name)
        return value


@contextmanager
def _without_folder() -> Iterator[None]:
    """The current folder is the starter's: what stands there may have another name's meaning for a worker."""
    path = sys.path[:]
    if not sys.flags.safe_path:
        del sys.path[0]
    try:
        yield
    finally:
        sys.path[:] = path


class _Hidden(MetaPathFinder):
    """Says of these modules that there are none, and notes who asked."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.asked: set[str] = set()

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname.partition(".")[0] in self._names:
            self.asked.add(fullname)
            raise ModuleNotFoundError(f"no module of the application: {fullname}", name=fullname)


@contextmanager
def _hiding(names: frozenset[str]) -> Iterator[_Hidden]:
    hidden = _Hidden(names)
    sys.meta_path.insert(0, hidden)
    try:
        yield hidden
    finally:
        sys.meta_path.remove(hidden)


def _threads_and_files() -> tuple[int, int]:
    """How many threads and open files this process has."""
    if sys.platform != "linux":
        return threading.active_count(), 0
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
