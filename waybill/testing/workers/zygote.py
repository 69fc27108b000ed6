"""The zygote, as a program: `python -m waybill.testing.workers.zygote DESCRIPTOR [STARTER]`.

It loads Celery, then the libraries of an application where the starter names them, and does what the starter at the
other end of the socket asks for. When that end is closed silently, the starter has died: it kills what it started
and ends.

A fork must not be told apart from the same command started as a program. What would differ is started as a program:

- `-P gevent` and `-P eventlet`, which patch the standard library before Celery is loaded;
- an environment with other values for what was read while Celery was loaded (which is noted then), or for what the
  interpreter and the dynamic loader read;
- a directory with a module that has the name of one that is loaded from elsewhere;
- whatever comes after a library that starts threads, opens files or looks for the application when it is loaded, and
  another application than the one whose libraries are loaded.
"""

from __future__ import annotations

import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, tzset
from typing import NoReturn

from waybill.testing.workers.differences import no_fork_reason
from waybill.testing.workers.loading import CELERY, Loading
from waybill.testing.workers.messages import (
    Close,
    End,
    Ended,
    Load,
    Reap,
    Report,
    Request,
    Start,
    Started,
    receive,
    send,
)
from waybill.testing.workers.processes import end_with_parent, forks_end_with_us, kill_group

# The signals that the zygote handles itself.
HANDLED = (signal.SIGCHLD, signal.SIGTERM)


class WorkerForker:
    """The workers that were started here, and the starter that asked for them.

    Args:
        starter: the socket to it.
        loading: what is loaded so far.
    """

    def __init__(self, starter: socket.socket, loading: Loading) -> None:
        self._starter = starter
        self._loading = loading
        self._pids: dict[int, int] = {}
        self._running: set[int] = set()
        self._deadlines: dict[int, float] = {}  # of those that are being stopped
        self._is_closing = False

    def serve(self) -> Start | None:
        """Do what the starter asks for until it is gone; in a forked worker, return what that is to run."""
        woken, wakes = socket.socketpair()
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes the select
        signal.signal(signal.SIGTERM, lambda *_: self._close())
        job = None
        try:
            with woken, wakes:
                while job is None and not (self._is_closing and not self._deadlines):
                    ready, _, _ = select.select([self._starter, woken], [], [], self._select_timeout())
                    if woken in ready:
                        woken.recv(4096)
                    self._report_ended()
                    self._kill_overdue()
                    if self._starter in ready:
                        if (got := receive(self._starter)) is None:
                            break
                        job = self._do(*got)
        finally:
            if job is None:
                for pid in self._pids.values():
                    kill_group(pid)
        return job

    def _close(self) -> None:
        with suppress(OSError):  # the starter has closed it already
            self._starter.shutdown(socket.SHUT_RDWR)

    def _do(self, message: Request, descriptors: Sequence[int]) -> Start | None:
        match message:
            case Load(names, own):
                self._loading.load(names, own)
            case Start():
                return self._start(message, *descriptors)
            case Reap(number):
                self._reap(number)
            case End(number, grace):
                self._deadlines[number] = monotonic() + grace
                if number in self._running:
                    os.kill(self._pids[number], signal.SIGTERM)
                else:
                    self._reap(number)
            case Close():
                self._is_closing = True
        return None

    def _start(self, job: Start, output: int) -> Start | None:
        """Fork: None in the zygote, and in the fork what it is to run."""
        reason = no_fork_reason(job, self._loading)
        zygote = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the fork has no handler of ours any more
        pid = os.fork()
        if pid == 0:
            self._become(job, output, zygote)
            if reason:
                _run_program(job)
            _prepare_interpreter(job)
            return job
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        os.close(output)
        self._pids[job.number] = pid
        self._running.add(job.number)
        self._report(Started(job.number, pid, reason))
        return None

    def _become(self, job: Start, output: int, zygote: int) -> None:
        """Make of this fork the process that the job's command would be at its start."""
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

    def _reap(self, number: int) -> None:
        """Let the system have a pid again, once nothing of the worker is left."""
        pid = self._pids.pop(number)
        self._running.discard(number)
        self._deadlines.pop(number, None)
        kill_group(pid)
        os.waitpid(pid, 0)

    def _select_timeout(self) -> float | None:
        """Seconds until the first of those that are being stopped is overdue."""
        return max(0.0, min(self._deadlines.values()) - monotonic()) if self._deadlines else None

    def _kill_overdue(self) -> None:
        for number, deadline in list(self._deadlines.items()):
            if monotonic() >= deadline:
                self._reap(number)

    def _report_ended(self) -> None:
        for number in list(self._running):
            ended = os.waitid(os.P_PID, self._pids[number], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            self._running.discard(number)
            if number in self._deadlines:
                self._reap(number)
            else:
                is_exit = ended.si_code == os.CLD_EXITED
                self._report(Ended(number, ended.si_status if is_exit else -ended.si_status))

    def _report(self, message: Report) -> None:
        with suppress(OSError):  # it is gone, which the next look at the socket shows
            send(self._starter, message)


def _run_program(job: Start) -> NoReturn:
    """Replace this process with `python -m module arguments`; does not return."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program inherits that
        signal.signal(number, signal.SIG_DFL)
    os.execve(sys.executable, [sys.executable, "-m", job.module, *job.arguments], job.environment)


def _prepare_interpreter(job: Start) -> None:
    """Let this interpreter have what the job's command would have at its start."""
    os.environ.clear()
    os.environ.update(job.environment)
    tzset()
    forks_end_with_us()
    sys.argv[:] = [job.module, *job.arguments]
    if not sys.flags.safe_path:
        sys.path[0] = job.directory


class _Terminated(BaseException):
    """SIGTERM while modules load; raised so that `finally` blocks run."""


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
        loading = Loading()
        loading.load(CELERY)
        job = WorkerForker(connection, loading).serve()
    if job is not None:
        runpy.run_module(job.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
