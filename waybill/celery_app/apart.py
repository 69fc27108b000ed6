"""Work on another application in a Python of its own, as its workers have: what it loads doesn't mix with ours.

Celery gives the shared tasks of every application in a process to every other, and an import may change anything.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from waybill.errors import InputError, WaybillError

T = TypeVar("T")

LOAD_SECONDS = 60.0
"""What an application may take to load, and the work on it."""

# What the application prints goes to standard error; the answer has standard output for itself.
_PROGRAM = """
import os, pickle, sys
path, work = pickle.load(sys.stdin.buffer)
sys.path[:] = path
out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
from waybill.celery_app.apart import answer
out.write(answer(work))
"""


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """`work(*arguments)`, done in a process of its own.

    Args:
        work: a function of a module; it, its arguments and what it returns can be pickled.

    Raises:
        InputError: what the work raised of our errors, or the process ended otherwise.
    """
    given = pickle.dumps((sys.path, pickle.dumps((work, arguments))))
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], input=given, capture_output=True, timeout=LOAD_SECONDS, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"not loaded within {LOAD_SECONDS:g} seconds") from error
    except (subprocess.SubprocessError, OSError) as error:
        said: bytes = getattr(error, "stderr", None) or str(error).encode()
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise InputError(lines[-1] if lines else str(error)) from error
    value, refusal = pickle.loads(done.stdout)
    if refusal is not None:
        raise InputError(refusal)
    result: T = value
    return result


def answer(given: bytes) -> bytes:
    """In the process: do the work, and give its value, or the line of an error, as bytes."""
    work, arguments = pickle.loads(given)
    try:
        return pickle.dumps((work(*arguments), None))
    except WaybillError as error:
        return pickle.dumps((None, str(error)))
