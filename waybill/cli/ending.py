"""What a program does on SIGINT, SIGTERM and SIGHUP.

It ends once, with one line and the exit code that a shell gives for the signal: 130, 143 or 129. The signal raises
`Interrupted`, so that every block takes down what it has started. Two cases are different:

- While the program loads, nothing has been started: it exits immediately (`exit_while_loading`).
- A block that is not left in time: its last resort is called, and the program exits (`time_limit`).

A signal that was ignored when the program started, as with nohup or in a shell's background job, stays ignored.

Only the standard library is imported, so that this holds before anything else is loaded.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from types import FrameType
from typing import NoReturn

from waybill.cli.status import status

SIGNALS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "terminal closed",
}

# Noted when this module is imported: later the program itself ignores signals.
HEEDED = tuple(number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)

STOPPED = "everything that was started is stopped"
NOTHING = "nothing had been started"


class Interrupted(BaseException):
    """Raised in the main thread by a signal. `except Exception` does not catch it.

    Not KeyboardInterrupt: click answers that with an empty line of its own.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports for a program that a signal ended."""
        return 128 + self.number


class Watchdog:
    """A thread that calls a function some time after a signal, unless it is cancelled before.

    A signal handler must not start a thread or take a lock that the interrupted code may hold. It may write to a pipe.

    Args:
        bite: called when the time is over.
    """

    def __init__(self, bite: Callable[[], object]) -> None:
        self._bite = bite
        self._seconds = 0.0
        self._reader, self._writer = os.pipe()
        self._is_cancelled = False
        self._deciding = threading.Lock()  # held by the thread and by `cancel`, never by a signal handler
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def wake(self, seconds: float) -> None:
        """Start the time; safe in a signal handler."""
        self._seconds = seconds
        os.write(self._writer, b".")

    def cancel(self) -> None:
        """End the thread without calling the function."""
        with self._deciding:
            self._is_cancelled = True
        os.close(self._writer)

    def _run(self) -> None:
        is_awake = bool(os.read(self._reader, 1))  # nothing where it is cancelled, which closes the pipe
        if is_awake and not select.select([self._reader], [], [], self._seconds)[0]:
            with self._deciding:
                if not self._is_cancelled:
                    self._bite()
        os.close(self._reader)


class Ending:
    """The end of this process by a signal.

    Attributes:
        number: the signal, from its arrival to the end of `raise_on_signal`.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._watchdog: Watchdog | None = None
        self._limits: list[tuple[float, Callable[[], object]]] = []
        self._is_said = threading.Lock()
        self._deferrals = 0
        self._is_program = False

    def exit_while_loading(self) -> None:
        """From now on a signal exits immediately: the program loads, and has started nothing."""
        self._is_program = True
        tempfile.gettempdir()  # it tries with a file, which would be left if we ended in between
        for number in HEEDED:
            signal.signal(number, self._end_loading)

    @contextmanager
    def raise_on_signal(self) -> Iterator[None]:
        """Within the block a signal raises Interrupted.

        After the last block the program ignores these signals while it exits.
        """
        self._is_said = threading.Lock()
        watchdog = self._watchdog = Watchdog(self._end_hard)
        before = {number: signal.signal(number, self._interrupt) for number in HEEDED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self._is_program else handler)
            watchdog.cancel()
            self.number = self._watchdog = None

    def call(self, work: Callable[[], object]) -> object:
        """Do the work. An error after a signal is the signal's: a library that was interrupted may fail at its end."""
        try:
            return work()
        except Exception as error:
            if self.number is not None:
                raise Interrupted(self.number) from error
            raise

    @contextmanager
    def time_limit(self, seconds: float, last_resort: Callable[[], object] = lambda: None) -> Iterator[None]:
        """A block that must be left within this time after a signal; otherwise the program exits.

        A second signal changes nothing then.

        Args:
            seconds: of nested blocks the longest limit counts.
            last_resort: called before the exit, in another thread, the innermost block's first.
        """
        limit = (seconds, last_resort)
        self._limits.append(limit)
        try:
            yield
        finally:
            self._limits.remove(limit)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal within the block is raised at its end, so that what was started is registered first.

        It is raised also where the block raises an error of its own.
        """
        self._deferrals += 1
        try:
            yield
        finally:
            self._deferrals -= 1
            if self.number is not None and not self._deferrals:
                raise Interrupted(self.number)

    @contextmanager
    def folder(self, prefix: str) -> Iterator[Path]:
        """A temporary folder, which is removed however the program ends."""
        with ExitStack() as stack:
            with self.deferred():
                path = tempfile.mkdtemp(prefix=prefix)
                stack.callback(rmtree, path, ignore_errors=True)
            with self.time_limit(0.0, lambda: rmtree(path, ignore_errors=True)):
                yield Path(path)

    def exit(self, code: int) -> NoReturn:
        """Exit: a program without the tear-down of everything that it has loaded, which takes as long as all before."""
        if self._is_program:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)
        sys.exit(code)

    def report(self, number: int, what: str = STOPPED) -> None:
        """The one line; not by `sys.stderr`, in the middle of whose line the signal may have come."""
        if not self._is_said.acquire(blocking=False):
            return
        line = f"error: {SIGNALS[signal.Signals(number)]}; {what}\n"
        with status.paused():
            try:
                os.write(sys.stderr.fileno(), line.encode())
            except (OSError, ValueError):  # it isn't a file
                sys.stderr.write(line)

    def _end_loading(self, number: int, _frame: FrameType | None) -> None:
        self.report(number, NOTHING)
        os._exit(Interrupted(number).exit_code)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self._begin(number)
        elif self._limits:
            return
        if not self._deferrals:
            raise Interrupted(self.number or number)

    def _begin(self, number: int) -> None:
        self.number = number
        status.clear()
        if self._is_program:
            self._silence()
        if self._watchdog is not None and self._limits:
            self._watchdog.wake(max(seconds for seconds, _ in self._limits))

    @staticmethod
    def _silence() -> None:
        """From now on there is one line to say; what a library has to say of a conversation broken off isn't it.

        An exception that is raised within a finalizer goes nowhere; the last resort then ends the program.
        """
        logging.disable()
        sys.unraisablehook = lambda _: None
        threading.excepthook = lambda _: None

    def _end_hard(self) -> None:
        limits, number = self._limits[::-1], self.number
        if not limits or number is None:  # left in time
            return
        for _, last_resort in limits:
            with suppress(Exception):
                last_resort()
        self.report(number)
        os._exit(Interrupted(number).exit_code)


ending = Ending()
