"""Run the project's programs as a person would, and read what they print.

`module` starts a process. `call` runs the same program in this one, which saves the start of an interpreter.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import pytest

from waybill.cli.running import run

Found = TypeVar("Found")

ROOT = Path(__file__).resolve().parents[2]
# Seconds after which a program is held to hang.
TIMEOUT = 120
# Seconds in which anything that a test waits for has to happen, on a machine however busy.
PATIENCE = 90.0

# The variable by which a test finds the processes that a program has started, in `processes_with`.
MARK = "WAYBILL_TESTS_STARTED_BY"


def without_progress(err: str) -> str:
    """Standard error without the lines that say what takes time: on a busy machine there are more of them."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.rstrip().endswith(" ..."))


def until(happens: Callable[[], Found | None], what: object = "", seconds: float = PATIENCE) -> Found:
    """Look until something is so, and return it; `what` is shown when it doesn't happen in time."""
    deadline, pace = monotonic() + seconds, 0.005
    while not (found := happens()):
        assert monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        sleep(pace)
        pace = min(2 * pace, 0.1)  # looking may cost more than what is waited for
    return found


def processes_with(variable: str, value: str) -> Iterator[int]:
    """The processes that were started with this in their environment; of a zombie nothing is left to be read."""
    wanted = f"{variable}={value}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)


@dataclass(frozen=True)
class Result:
    """What a program printed, and its exit code; `err` is without the lines that say what takes time."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines: every line has to be one."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def complaint(self) -> str:
        """The one line on standard error that says what was wrong."""
        (line,) = self.err.splitlines()
        return line


def call(name: str, *arguments: str) -> Result:
    """What `python -m name arguments` does, in this process."""
    out, err = io.StringIO(), io.StringIO()
    loaded = importlib.import_module(name)
    lesson = getattr(loaded, "publish", None)
    command = getattr(loaded, "main", None) or (lesson.command if lesson else loaded.waybill)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exit_:
        run(command, arguments, name=f"python -m {name}")
    return Result(int(exit_.value.code or 0), out.getvalue(), without_progress(err.getvalue()))


def module(name: str, *arguments: str, environment: Mapping[str, str] | None = None, folder: Path = ROOT) -> Result:
    """`python -m name arguments` in that folder.

    The environment is ours without the choice of a broker, and with these variables.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ("BROKER", "WAYBILL_BROKER_URL")}
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=folder,
        env={**kept, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Result(done.returncode, done.stdout, without_progress(done.stderr))
