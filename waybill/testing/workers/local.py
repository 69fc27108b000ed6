"""The workers of a fleet, as processes: started with the commands of its description, and every one of them stopped."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self

from waybill.celery_app.fleet.workers import Worker
from waybill.errors import FleetError, WorkerEnded
from waybill.testing.outcomes import Outcome
from waybill.testing.workers.starter import LOG_TAIL, Process, Zygote

# Seconds that a worker gets to finish its task after SIGTERM, before it is killed with its children.
GRACE = 10.0
# Bytes of a worker's output that are read.
MAX_LOG = 1024 * 1024


class LocalWorkers:
    """Run workers as processes of this machine: `with LocalWorkers(fleet, environment, folder) as workers: ...`.

    Leaving the block, for whatever reason, stops every one of them. Each runs in a process group of its own: a Ctrl-C
    in the terminal reaches only us, and no pool process is left behind. When we are killed, they are.

    Args:
        workers: what to start; their node names' `%h` is this host.
        environment: variables that the workers get beside our own.
        directory: the folder in which the application can be imported.
        zygote: who starts them, if somebody else has one; it must outlive the block.
        runs_tasks: False where they receive and acknowledge only.
    """

    def __init__(
        self,
        workers: Iterable[Worker],
        environment: Mapping[str, str],
        directory: Path,
        zygote: Zygote | None = None,
        *,
        runs_tasks: bool = True,
    ) -> None:
        self.runs_tasks = runs_tasks
        self.workers = tuple(workers)
        self._environment = {**os.environ, **environment}
        self._directory = directory
        self._shared_zygote = zygote
        self._exit = ExitStack()
        self._running: dict[str, tuple[Process, IO[bytes]]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._zygote = self._shared_zygote or stack.enter_context(Zygote())
            stack.callback(self.stop)
            for worker in self.workers:
                self.start(worker)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def start(self, worker: Worker) -> None:
        """Start one worker more; it belongs to the block like the others.

        Raises:
            FleetError: the process that starts them has ended.
        """
        with ExitStack() as stack:
            log = stack.enter_context(tempfile.TemporaryFile())
            started = self._zygote.start(
                worker.module, worker.arguments, self._environment, self._directory, output=log.fileno()
            )
            self._running[worker.name] = (started, log)
            stack.pop_all()  # the log is closed when the worker is stopped

    def kill(self, name: str) -> None:
        """End one worker at once with its children, as a crash would."""
        _end(*self._running[name])
        del self._running[name]

    def check_alive(self) -> None:
        """Raise FleetError, with the end of its log, when a worker has ended by itself."""
        for name, (process, log) in self._running.items():
            if process.poll() is not None:
                raise WorkerEnded(name, process.returncode, _lines(log)[-LOG_TAIL:])

    def log_of(self, name: str) -> list[str]:
        """The last lines that a worker has written."""
        return _lines(self._running[name][1])[-LOG_TAIL:]

    def queues(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Nothing: the workers themselves are asked what they consume."""
        return {}

    def state(self, outcomes: Mapping[str, Outcome]) -> bool:  # noqa: ARG002
        """False: the workers are told by Celery's remote control."""
        return False

    def refresh(self) -> bool:
        """False: they consume what their commands say."""
        return False

    def is_publishing(self) -> bool:
        """False: what they publish, other processes do."""
        return False

    def stop(self, grace: float = GRACE, *, wait: bool = True) -> None:
        """Stop every worker: warmly, and after so many seconds by force. A Ctrl-C meanwhile makes it by force at once.

        Args:
            wait: if False, return at once; the zygote stops them, and waits for them when its own block ends.
        """
        if not wait:
            self._hand_over(grace)
            return
        try:
            with suppress(FleetError):  # the zygote has ended, and they with it
                for process, _ in self._running.values():
                    process.send_signal(signal.SIGTERM)
            deadline = monotonic() + grace
            for process, _ in self._running.values():
                with suppress(TimeoutError, FleetError):
                    process.wait(max(0.0, deadline - monotonic()))
        finally:
            for name in list(self._running):
                self.kill(name)

    def _hand_over(self, grace: float) -> None:
        """Let the zygote stop every worker."""
        while self._running:
            process, log = self._running.popitem()[1]
            log.close()
            with suppress(FleetError):
                process.end(grace)


def _lines(log: IO[bytes]) -> list[str]:
    """What a worker has written; the file is its own, too, so that its place in it is left as it is."""
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), MAX_LOG, max(0, size - MAX_LOG)).decode(errors="replace").strip().splitlines()


def _end(process: Process, log: IO[bytes]) -> None:
    """Kill a worker and the pool processes that it may have left."""
    process.kill_group()
    process.wait()
    process.reap()
    log.close()
