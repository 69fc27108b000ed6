"""Failures that read well: one paragraph, without our frames, with the workers' last lines as lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

# Where this package is: frames of files below it are not shown.
OURS = str(Path(__file__).parents[1])


def refusal(message: str) -> BaseException:
    """The failure of a test that can't be set up; raise it. It is shown in full once, whoever else it fails."""
    error: Any = pytest.fail.Exception(message, pytrace=False)
    error.waybill = True
    return error  # type: ignore[no-any-return]


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Our own errors within the block become refusals."""
    try:
        yield
    except Exception as error:
        if not is_ours(error):
            raise
        raise refusal(_worded(error)) from None


def is_ours(error: object) -> bool:
    """Whether this is a `WaybillError`, which isn't imported for the question."""
    return any(kind.__module__ == "waybill.errors" for kind in type(error).__mro__)


def _worded(error: Any) -> str:
    lines = getattr(error, "lines", None)
    if lines is None:
        return str(error)
    told = "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
    return f"Worker `{error.name}` ended with exit code {error.code}. Its last lines:\n\n{told}"


def hide_our_frames(call: pytest.CallInfo[None]) -> None:
    """Leave the test's own frames in the traceback of one of our errors."""
    if call.excinfo is None or not is_ours(call.excinfo.value):
        return
    error = call.excinfo.value
    call.excinfo = pytest.ExceptionInfo.from_exception(error.with_traceback(_theirs(error.__traceback__)))


def _theirs(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback up to where it enters our package, by a context manager or not."""
    if traceback is None or traceback.tb_frame.f_code.co_filename.startswith((OURS, contextlib.__file__)):
        return None
    following = _theirs(traceback.tb_next)
    return TracebackType(following, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)


def add_logs(item: pytest.Item, call: pytest.CallInfo[None], report: Any) -> None:
    """Add the workers' last lines to the report of one of our errors; a refusal is shown in full once."""
    if call.excinfo is None:
        return
    error: Any = call.excinfo.value
    if getattr(error, "waybill", False):
        error.msg = f"{str(error.msg).splitlines()[0]} (told in full above)" if "\n" in str(error.msg) else error.msg
        return
    if not is_ours(error):
        return
    for worker in getattr(error, "workers", ()):
        log_of = getattr(getattr(item, "funcargs", {}).get("waybill_workers"), "log_of", None)
        if log_of is not None:
            report.sections.append((f"last lines of worker {worker}", "\n".join(log_of(worker))))


def forget(watch: Any) -> None:
    """Begin anew for the next test; where a worker has ended, that test says so."""
    try:
        watch.forget()
    except Exception as error:
        if not is_ours(error):
            raise
