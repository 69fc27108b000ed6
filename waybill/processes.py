"""Workers as local processes: started with the commands of the fleet's description, and every one of them stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO

from waybill.errors import FleetError
from waybill.fleet import Worker

# Seconds that a worker gets to finish its task after SIGTERM, before it is killed with its children.
GRACE = 10.0
# Lines of a dead worker's log that are shown.
LOG_TAIL = 8


class LocalWorkers:
    """Run workers as processes of this machine: `with LocalWorkers(fleet, environment) as workers: ...`.

    Leaving the block, for whatever reason, stops every one of them. Each runs in a process group of its own: a Ctrl-C
    in the terminal reaches only us, and no pool process is left behind.

    Args:
        workers: what to start; their node names' `%h` is this host.
        environment: variables that the workers get beside our own.
        directory: the folder in which the application can be imported.
    """

    def __init__(self, workers: Iterable[Worker], environment: Mapping[str, str], directory: Path) -> None:
        self.workers = tuple(workers)
        self._environment = {**os.environ, **environment}
        self._directory = directory
        self._running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    def __enter__(self) -> LocalWorkers:
        try:
            for worker in self.workers:
                self.start(worker)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, worker: Worker) -> None:
        """Start one worker more; it belongs to the block like the others."""
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the worker is stopped)
        with _signals_later():  # a process that runs and isn't known would outlive us
            process = subprocess.Popen(
                [sys.executable, "-m", worker.module, *worker.arguments],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running[worker.name] = (process, log)

    def kill(self, name: str) -> None:
        """End one worker at once with its children, as a crash would."""
        process, log = self._running.pop(name)
        _kill_group(process)
        process.wait()
        log.close()

    def check_alive(self) -> None:
        """Raise FleetError, with the end of its log, when a worker has ended by itself."""
        for name, (process, log) in self._running.items():
            if process.poll() is not None:
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines()[-LOG_TAIL:]
                raise FleetError(f"worker {name!r} ended with exit code {process.returncode}: " + " | ".join(lines))

    def stop(self) -> None:
        """Stop every worker: warmly, and after GRACE seconds by force. A Ctrl-C meanwhile makes it by force at once."""
        try:
            for process, _ in self._running.values():
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
            deadline = monotonic() + GRACE
            for process, _ in self._running.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - monotonic()))
        finally:
            with _signals_later():
                for process, log in self._running.values():
                    _kill_group(process)
                    process.wait()
                    log.close()
                self._running.clear()


@contextmanager
def _signals_later() -> Iterator[None]:
    """What asks us to stop within the block is heeded at its end. Handlers, unlike SIG_IGN, aren't inherited."""
    if threading.current_thread() is not threading.main_thread():  # only that one is ever interrupted
        yield
        return
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: heard.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for one in heard:
        signal.raise_signal(one)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker and the pool processes that it may have left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
