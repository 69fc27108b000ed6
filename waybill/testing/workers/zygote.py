"""The zygote, as a program: `python -m waybill.testing.workers.zygote DESCRIPTOR [STARTER]`.

It loads Celery, then the libraries of the application where the starter knows them, and does what the starter at the
other end of the socket asks for. When that end is closed without a word, the starter has died: it kills what it started
and ends.

A fork must not be told apart from the same command started as a program. What would differ is started as a program:

- `-P gevent` and `-P eventlet`, which patch the standard library before Celery is loaded;
- an environment with other values for what was read while Celery was loaded (which is noted then), or for what the
  interpreter and the dynamic loader read;
- a directory with a module that has the name of one that is loaded from elsewhere;
- whatever comes after a library that starts threads or opens files when it is loaded, and another application than the
  one whose libraries are loaded.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import select
import signal
import socket
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from itertools import pairwise
from pathlib import Path
from time import monotonic, tzset
from typing import ClassVar, NoReturn

from waybill.testing.workers.messages import (
    Close,
    End,
    Ended,
    Forget,
    Load,
    Report,
    Request,
    Start,
    Started,
    receive,
    send,
)
from waybill.testing.workers.processes import end_with_parent, forks_end_with_us, kill_group

# What a worker loads until it is ready, of Celery's and Kombu's own; what a version hasn't got is left out.
LOADED = (
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

# These pools replace parts of the standard library, which has to come first (celery/__init__.py,
# maybe_patch_concurrency).
PATCHING_POOLS = ("eventlet", "gevent")

# Read by the interpreter and by the dynamic loader before anybody could note it.
FIRST_READ = ("PYTHON", "LD_", "LC_", "LANG")

# The signals that the zygote handles itself.
HANDLED = (signal.SIGCHLD, signal.SIGTERM)


class _Noting(type(os.environ)):  # type: ignore[misc]
    """The environment, noting which variables are asked for by name; a copy of all of it asks for none."""

    asked: ClassVar[set[str]] = set()
    _listed: ClassVar[set[str]] = set()

    def __iter__(self) -> Iterator[str]:
        names = list(super().__iter__())
        self._listed.update(names)
        return iter(names)

    def __getitem__(self, name: str) -> str:
        if name in self._listed:
            self._listed.remove(name)
        else:
            self.asked.add(name)
        value: str = super().__getitem__(name)
        return value


def load(names: Iterable[str], own: Collection[str] = ()) -> set[str]:
    """Load modules, without any module of these top-level names; the variables that were looked at meanwhile.

    What cannot be loaded without the application is left to the workers.
    """
    plain, path = type(os.environ), sys.path[:]
    os.environ.__class__ = _Noting
    sys.meta_path.insert(0, missing := _Missing(own))
    if own:
        del sys.path[0]  # the folder of the application, or that of the starter
    try:
        for name in names:
            with suppress(Exception, SystemExit):
                importlib.import_module(name)
    finally:
        os.environ.__class__ = plain
        sys.meta_path.remove(missing)
        sys.path[:] = path
    gc.collect()
    gc.freeze()  # what is loaded stays in pages that the workers share
    return _Noting.asked


class _Missing(MetaPathFinder):
    """Says of these modules that there are none."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"no module of the application: {fullname}", name=fullname)


class Zygote:
    """The workers that were started here, and the starter that asked for them.

    Args:
        starter: the socket to it.
        asked: the variables that Celery's modules looked at.
    """

    def __init__(self, starter: socket.socket, asked: set[str]) -> None:
        self._starter = starter
        self._asked = asked
        self._environment = dict(os.environ)
        self._pids: dict[int, int] = {}
        self._running: set[int] = set()
        self._deadlines: dict[int, float] = {}  # of those that are being stopped
        self._is_closing = False
        self._has_more = False
        self._applications: set[str] = set()  # those whose libraries are loaded

    def serve(self) -> Start | None:
        """Do what the starter asks for until it is gone; in a forked worker, return what that is to run."""
        woken, wakes = socket.socketpair()
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes the select
        signal.signal(signal.SIGTERM, lambda *_: self._starter.shutdown(socket.SHUT_RDWR))
        with woken, wakes:
            while not (self._is_closing and not self._deadlines):
                ready, _, _ = select.select([self._starter, woken], [], [], self._patience())
                if woken in ready:
                    woken.recv(4096)
                self._report_ended()
                self._kill_late()
                if self._starter in ready:
                    got = receive(self._starter)
                    if got is None:
                        break
                    if (job := self._do(*got)) is not None:
                        return job
        for pid in self._pids.values():
            kill_group(pid)
        return None

    def _do(self, message: Request, descriptors: Sequence[int]) -> Start | None:
        match message:
            case Load(names, own):
                before = _left_by_imports()
                self._asked |= load(names, own)
                self._applications.update(own)
                self._has_more = self._has_more or _left_by_imports() != before
            case Start():
                return self._start(message, *descriptors)
            case Forget(number):
                self._forget(number)
            case End(number, grace):
                self._deadlines[number] = monotonic() + grace
                if number in self._running:
                    os.kill(self._pids[number], signal.SIGTERM)
                else:
                    self._forget(number)
            case Close():
                self._is_closing = True
        return None

    def _start(self, job: Start, output: int) -> Start | None:
        """Fork: None in the zygote, and in the fork what it is to run."""
        difference = self._difference(job)
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the fork has no handler of ours any more
        pid = os.fork()
        if pid == 0:
            return self._become(job, output, is_fork=not difference)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        os.close(output)
        self._pids[job.number] = pid
        self._running.add(job.number)
        self._report(Started(job.number, pid, difference))
        return None

    def _forget(self, number: int) -> None:
        """Let the system have a pid again, once nothing of the worker is left."""
        pid = self._pids.pop(number)
        self._running.discard(number)
        self._deadlines.pop(number, None)
        kill_group(pid)
        os.waitpid(pid, 0)

    def _patience(self) -> float | None:
        """Seconds until somebody must be killed."""
        return max(0.0, min(self._deadlines.values()) - monotonic()) if self._deadlines else None

    def _kill_late(self) -> None:
        for number, deadline in list(self._deadlines.items()):
            if monotonic() >= deadline:
                self._forget(number)

    def _difference(self, job: Start) -> str:
        """What would differ in a fork, in a few words; empty when nothing would."""
        directory = Path(job.directory)
        if self._has_more:
            return "threads or files of a library"
        if self._applications and (application := _application(job)) not in self._applications:
            return f"libraries that {application} may not load"
        if pool := _patching_pool(job.arguments):
            return f"the pool {pool}"
        if names := self._read_otherwise(job.environment):
            return f"the environment: {', '.join(sorted(names))}"
        if not directory.is_dir() or (names := _shadowing(directory, sys.modules)):
            return f"modules of {directory}: {', '.join(sorted(names))}"
        return ""

    def _read_otherwise(self, environment: Mapping[str, str]) -> set[str]:
        """The variables that what was loaded here has looked at, and that have other values there."""
        names = self._asked | {name for name in {**self._environment, **environment} if name.startswith(FIRST_READ)}
        return {name for name in names if self._environment.get(name) != environment.get(name)}

    def _become(self, job: Start, output: int, *, is_fork: bool) -> Start:
        """Make of this fork the process that the job's command would be at its start."""
        zygote = os.getppid()
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        self._starter.close()
        end_with_parent(zygote)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.close(output)
        os.chdir(job.directory)
        if not is_fork:
            _run_program(job)
        os.environ.clear()
        os.environ.update(job.environment)
        tzset()
        forks_end_with_us()
        return job

    def _report_ended(self) -> None:
        for number in list(self._running):
            ended = os.waitid(os.P_PID, self._pids[number], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            self._running.discard(number)
            if number in self._deadlines:
                self._forget(number)
            else:
                is_exit = ended.si_code == os.CLD_EXITED
                self._report(Ended(number, ended.si_status if is_exit else -ended.si_status))

    def _report(self, message: Report) -> None:
        with suppress(OSError):  # it is gone, which the next look at the socket shows
            send(self._starter, message)


def _left_by_imports() -> tuple[int, int]:
    """How many threads and open files this process has: a fork would lose the ones and share the others."""
    if sys.platform != "linux":
        return threading.active_count(), 0
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def _application(job: Start) -> str:
    """The top-level module of the application that a worker is to load."""
    named = (value for option, value in pairwise(job.arguments) if option in ("-A", "--app"))
    return next(named, job.module).partition(":")[0].partition(".")[0]


def _patching_pool(arguments: Sequence[str]) -> str:
    """The pool for which Celery would patch the standard library before all else; empty for another."""
    named = [
        *(value for option, value in pairwise(arguments) if option in ("-P", "--pool")),
        *(word.removeprefix("--pool=").removeprefix("-P") for word in arguments if word.startswith(("--pool=", "-P"))),
    ]
    return next((pool for pool in named if pool in PATCHING_POOLS), "")


def _shadowing(directory: Path, loaded: Mapping[str, object]) -> set[str]:
    """The modules of a directory whose names are taken by modules that were loaded from elsewhere."""
    found = set()
    for entry in directory.iterdir():
        name = entry.stem if entry.suffix == ".py" else entry.name
        if name in loaded and (entry.suffix == ".py" or (entry / "__init__.py").exists()):
            origin = getattr(loaded[name], "__file__", None)
            if origin is None or directory.resolve() not in Path(origin).resolve().parents:
                found.add(name)
    return found


def _run_program(job: Start) -> NoReturn:
    """Replace this process; that fails as a shell would say it."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program inherits that
        signal.signal(number, signal.SIG_DFL)
    os.execve(sys.executable, [sys.executable, "-m", job.module, *job.arguments], job.environment)


class _Terminated(BaseException):
    """SIGTERM while something is loaded: what is being done there is left in order."""


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


def main() -> None:
    """Serve the starter; in a worker, run its command line as `python -m` does."""
    descriptor, *starter = map(int, sys.argv[1:])
    signal.signal(signal.SIGTERM, _terminate)
    for pid in starter:
        end_with_parent(pid, signal.SIGTERM)
    job = None
    with socket.socket(fileno=descriptor) as connection, suppress(_Terminated):
        job = Zygote(connection, load(LOADED)).serve()
    if job is not None:
        sys.argv[:] = ["celery", *job.arguments]
        sys.path[0] = job.directory
        runpy.run_module(job.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
