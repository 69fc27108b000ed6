"""Show progress on standard error: at a terminal one line that changes, elsewhere a line after each silence.

Only the standard library is imported, so that it can be used before anything else is loaded.

    with status.working("starting 17 workers") as update:
        update("starting 17 workers: 5 of 17 are ready")
        with status.paused():
            print("a result")

Each line ends with ` ...`, by which a script can tell it from an error.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep

# Seconds of silence after which a line is printed where no terminal shows a changing one; the first comes sooner.
FIRST_SILENCE, SILENCE = 0.25, 1.2
# Seconds between two drawings of the changing line, and before its first: what ends sooner shows nothing.
REDRAW_INTERVAL = 0.1
# Seconds after which the line says how many there were.
LONG = 2.0
# Seconds to wait for whoever prints. Longer than anything takes: then a signal has broken off a block that was being
# entered, and whoever ends the program in its place must not wait for ever.
PATIENCE = 1.0

ERASE = "\r\x1b[K"


@dataclass
class Work:
    """Something that takes time, and when it began."""

    text: str
    began: float


class Status:
    """What the program is doing now. Blocks may be nested: the innermost one is shown."""

    def __init__(self) -> None:
        # Held while anything is printed; reentrant, for a signal's handler prints too.
        self._lock = threading.RLock()
        self._works: list[Work] = []
        self._has_work = threading.Event()
        self._thread: threading.Thread | None = None
        self._drawn = ""
        self._said = monotonic() - (SILENCE - FIRST_SILENCE)

    @contextmanager
    def working(self, text: str) -> Iterator[Callable[[str], None]]:
        """This is done within the block; what is yielded changes the text."""
        work = self.begin(text)

        def update(text: str) -> None:
            work.text = text

        try:
            yield update
        finally:
            self._end(work)

    def begin(self, text: str) -> Work:
        """This is done from now on, until `clear`."""
        work = Work(text, monotonic())
        self._works.append(work)
        self._has_work.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="status", daemon=True)
            self._thread.start()
        return work

    def clear(self) -> None:
        """Nothing is done any more."""
        for work in self._works[:]:
            self._end(work)

    @contextmanager
    def paused(self, resets_silence: bool = True) -> Iterator[None]:
        """Something else is printed within the block: the changing line is away meanwhile.

        Args:
            resets_silence: the output counts as progress: restart the silence timer.
        """
        is_held = self._lock.acquire(timeout=PATIENCE)
        try:
            self._erase()
            yield
        finally:
            if resets_silence:
                self._said = monotonic()
            if is_held:
                self._lock.release()

    def _end(self, work: Work) -> None:
        # Also called by a signal's handler, so it leaves the event alone, whose lock the interrupted code may hold.
        self._works[:] = [one for one in self._works if one is not work]
        with self.paused(resets_silence=False):
            pass

    def _run(self) -> None:
        while self._has_work.wait():
            sleep(REDRAW_INTERVAL)
            # Standard error may be closed; and the last work may have ended meanwhile.
            with self._lock, suppress(OSError, ValueError, IndexError):
                self._show(self._works[-1])
            if not self._works:
                self._has_work.clear()
                if self._works:  # begun in between
                    self._has_work.set()

    def _show(self, work: Work) -> None:
        seconds = monotonic() - work.began
        shown = f"{work.text}, {seconds:.0f} s ..." if seconds >= LONG else f"{work.text} ..."
        if _is_terminal():
            if shown != self._drawn:
                _write(ERASE + shown[: shutil.get_terminal_size().columns - 1])
                self._drawn = shown
        elif monotonic() - self._said >= SILENCE:
            _write(f"{shown}\n")
            self._said = monotonic()

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = ""
            with suppress(OSError, ValueError):
                _write(ERASE)


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


status = Status()
