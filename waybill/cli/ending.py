"""How a program ends that is told to: by Ctrl-C, by SIGTERM, or by a terminal that is closed.

It ends once, with one line and the exit code that a shell gives for the signal: 130, 143 or 129. The signal raises
`Ended`, so that every block takes down what it has started. Two cases are different:

- While the program loads, nothing has been started: it ends where it stands (`at_once`).
- A block that is not left in time ends the program where it stands, after its last resort (`within`).

Only the standard library is imported, so that this holds before anything else is loaded.
"""

from __future__ import annotations

import logging
import os
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

STOPPED = "everything that was started is stopped"
NOTHING = "nothing had been started"


class Ended(BaseException):
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


class Ending:
    """The end of this process by a signal.

    Attributes:
        number: the signal, once it is here.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._limits: list[tuple[float, Callable[[], object]]] = []
        self._is_said = threading.Lock()
        self._deferrals = 0
        self._is_program = False

    def at_once(self) -> None:
        """From now on a signal ends the program where it stands: it loads, and has started nothing."""
        self._is_program = True
        tempfile.gettempdir()  # it tries with a file, which would be left if we ended in between
        for number in SIGNALS:
            signal.signal(number, self._end_loading)

    @contextmanager
    def in_order(self) -> Iterator[None]:
        """Within the block a signal raises Ended. After a program's last block signals are ignored: it is over."""
        self.number, self._is_said = None, threading.Lock()
        before = {number: signal.signal(number, self._end_in_order) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self._is_program else handler)

    @contextmanager
    def within(self, seconds: float, last_resort: Callable[[], object]) -> Iterator[None]:
        """A block that takes this long to leave after a signal at most; otherwise the program ends where it stands.

        A second signal changes nothing then.

        Args:
            seconds: of nested blocks those of the outermost one count.
            last_resort: called before that end, in another thread, the innermost block's first.
        """
        limit = (seconds, last_resort)
        self._limits.append(limit)
        try:
            yield
        finally:
            self._limits.remove(limit)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal within the block counts at its end: what is started is known to whoever stops it."""
        self._deferrals += 1
        try:
            yield
        finally:
            self._deferrals -= 1
        if self.number is not None and not self._deferrals:
            raise Ended(self.number)

    @contextmanager
    def folder(self, prefix: str) -> Iterator[Path]:
        """A temporary folder, which is removed however the program ends."""
        with ExitStack() as stack:
            with self.deferred():
                path = tempfile.mkdtemp(prefix=prefix)
                stack.callback(rmtree, path, ignore_errors=True)
            with self.within(0.0, lambda: rmtree(path, ignore_errors=True)):
                yield Path(path)

    def exit(self, code: int) -> NoReturn:
        """Exit: a program without the tear-down of everything that it has loaded, which takes as long as all before."""
        if self._is_program:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)
        sys.exit(code)

    def say(self, number: int, what: str = STOPPED) -> None:
        """The one line; not by `sys.stderr`, in the middle of whose line the signal may have come."""
        if not self._is_said.acquire(blocking=False):
            return
        line = f"error: {SIGNALS[signal.Signals(number)]}; {what}\n"
        with status.aside():
            try:
                os.write(sys.stderr.fileno(), line.encode())
            except (OSError, ValueError):  # it isn't a file
                sys.stderr.write(line)

    def _end_loading(self, number: int, _frame: FrameType | None) -> None:
        self.say(number, NOTHING)
        os._exit(Ended(number).exit_code)

    def _end_in_order(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self._begin(number)
        elif self._limits:
            return
        if not self._deferrals:
            raise Ended(self.number or number)

    def _begin(self, number: int) -> None:
        self.number = number
        status.clear()
        if self._is_program:
            self._silence()
        if self._limits:
            timer = threading.Timer(self._limits[0][0], self._end_hard, (number,))
            timer.daemon = True
            timer.start()

    @staticmethod
    def _silence() -> None:
        """From now on there is one line to say; what a library has to say of a conversation broken off isn't it.

        An exception that is raised within a finalizer goes nowhere; the last resort then ends the program.
        """
        logging.disable()
        sys.unraisablehook = lambda _: None
        threading.excepthook = lambda _: None

    def _end_hard(self, number: int) -> None:
        limits = self._limits[::-1]
        if not limits:  # left in time
            return
        for _, last_resort in limits:
            with suppress(Exception):
                last_resort()
        self.say(number)
        os._exit(Ended(number).exit_code)


ending = Ending()
