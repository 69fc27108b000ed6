"""The starter's side: a zygote to ask for workers, and the workers that it has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from select import select
from time import monotonic
from types import TracebackType
from typing import IO, Self

from waybill.errors import FleetError
from waybill.testing.workers.libraries import Loaded
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
    peek,
    send,
    skip,
)
from waybill.testing.workers.processes import kill_group

# Seconds that the zygote gets to end, which it does as soon as it has killed what it started.
END_TIMEOUT = 5.0
# Seconds that workers which are still stopping get at the end of the block; then they are killed.
CLOSE_TIMEOUT = 30.0
# Lines of the zygote's errors that are shown.
LOG_TAIL = 8


class Process:
    """A worker's process, as `subprocess.Popen` would show it.

    Attributes:
        returncode: None while it runs; minus the number of the signal that ended it.
        no_fork_reason: why it was started as a program, and not as a fork of the zygote; empty for a fork, and None
            until the zygote has said so.
        is_lost: True when the zygote has ended.
    """

    def __init__(self, zygote: Zygote, number: int) -> None:
        self.number = number
        self.returncode: int | None = None
        self.no_fork_reason: str | None = None
        self.is_lost = False
        self._zygote = zygote
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too, and stays its own until `reap`.

        Raises:
            FleetError: the zygote has ended.
        """
        while self._pid is None:
            self._zygote.listen(None)  # which raises in the end, if it never comes
        return self._pid

    def poll(self) -> int | None:
        """The return code, if it has ended by now."""
        while self.returncode is None and self._zygote.listen(0.0):
            pass
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Args:
            timeout: in seconds.

        Raises:
            TimeoutError: it runs on.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while self.returncode is None:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            if not self._zygote.listen(left) and left == 0.0:
                raise TimeoutError(f"the worker runs on after {timeout} s")
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kill it, and the pool processes that it has or has left."""
        if not self.is_lost:
            kill_group(self.pid)

    def reap(self) -> None:
        """Let the system have the pid again; the process must have ended."""
        self._zygote.release(self, Reap(self.number))

    def end(self, grace: float) -> None:
        """Let the zygote stop it: warmly, and after so many seconds by force. Nobody waits here for that."""
        self._zygote.release(self, End(self.number, grace))

    def note(self, message: Report) -> None:
        """What the zygote says of it."""
        if isinstance(message, Started):
            self._pid, self.no_fork_reason = message.pid, message.no_fork_reason
        elif isinstance(message, Ended):
            self.returncode = message.code

    def mark_lost(self) -> None:
        """The zygote is gone: kill what is left of the worker, whose pid may soon be somebody else's."""
        self.is_lost = True
        if self.returncode is None:
            self.returncode = -signal.SIGKILL
            if self._pid is not None:
                kill_group(self._pid)


class Zygote:
    """A process that loads Celery once and starts workers: `with Zygote() as zygote: LocalWorkers(..., zygote=zygote)`.

    It begins to load when the block is entered, which nobody has to wait for. The workers end with the block.
    """

    def __init__(self) -> None:
        self._numbers = 0
        self._processes: dict[int, Process] = {}
        self._listening = threading.RLock()
        self._loaded: set[str] = set()
        self._is_started = self._is_entered = False

    def start_loading(self) -> None:
        """Start the process; entering the block does so, unless it was done before."""
        self._socket, theirs = socket.socketpair()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        with theirs:
            # The kernel ends it with the thread that starts it: only the main thread ends with the process.
            is_main = threading.current_thread() is threading.main_thread()
            starter = [str(os.getpid())] if is_main else []
            self._is_started = True
            self._program = subprocess.Popen(
                [sys.executable, "-m", "waybill.testing.workers.zygote", str(theirs.fileno()), *starter],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env=dict(os.environ),  # Popen's own would have what C code has set too (readline: COLUMNS)
                start_new_session=True,  # a Ctrl-C in the terminal is the starter's alone
            )

    def close_unused(self) -> None:
        """End the process, if it was started and the block was never entered."""
        if self._is_started and not self._is_entered:
            self._end()

    def __enter__(self) -> Self:
        if not self._is_started:
            self.start_loading()
        self._is_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._numbers and not self._processes:
                send(self._socket, Close())  # what is being stopped may end in its own time
                self._program.wait(CLOSE_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired):
            pass  # it is gone already, or is made to go
        finally:
            self._end()

    def _end(self) -> None:
        self._socket.close()
        self._program.terminate()  # it may be loading still
        try:
            self._program.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._program.kill()
            self._program.wait()
        finally:
            self._mark_all_lost()
            self._errors.close()

    @property
    def pid(self) -> int:
        return self._program.pid

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], directory: Path, output: int
    ) -> Process:
        """Start `python -m module arguments`.

        Args:
            environment: every variable that it gets.
            output: the descriptor of the file that it writes to.

        Raises:
            FleetError: the zygote has ended.
        """
        self._numbers += 1
        process = Process(self, self._numbers)
        self._processes[self._numbers] = process
        job = Start(self._numbers, module, tuple(arguments), str(directory.resolve()), dict(environment))
        self._send(job, output)
        return process

    def load(self, loaded: Loaded) -> None:
        """Load libraries, once for all the workers that are started from now on; nobody waits here for that.

        Raises:
            FleetError: the zygote has ended.
        """
        news = tuple(name for name in loaded.libraries if name not in self._loaded)
        if news:
            self._loaded.update(news)
            self._send(Load(news, loaded.own))

    def listen(self, timeout: float | None) -> bool:
        """Hear what the zygote says next; False when that is nothing within so many seconds.

        Raises:
            FleetError: it has ended, and what it started with it.
        """
        with self._listening:
            if not select([self._socket], [], [], timeout)[0]:
                return False
            got = peek(self._socket)
            if got is None:
                raise self._lost_error()
            report, size = got
            if process := self._processes.get(report.number):
                process.note(report)
            skip(self._socket, size)
            return True

    def release(self, process: Process, message: Reap | End) -> None:
        """Remove a worker, and tell the zygote to reap or to stop it."""
        try:
            if not process.is_lost:
                self._send(message)
        finally:
            del self._processes[process.number]

    def _send(self, message: Request, *descriptors: int) -> None:
        """Tell the zygote.

        Raises:
            FleetError: it has ended.
        """
        with self._listening:
            try:
                send(self._socket, message, *descriptors)
            except OSError as error:
                raise self._lost_error() from error

    def _lost_error(self) -> FleetError:
        """What to raise when nobody answers; whatever was started is killed."""
        self._mark_all_lost()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()[-LOG_TAIL:]
        return FleetError("the process that starts the workers has ended" + ": " * bool(lines) + " | ".join(lines))

    def _mark_all_lost(self) -> None:
        for process in self._processes.values():
            process.mark_lost()
