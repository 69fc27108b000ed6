"""Where results are kept, for the lessons that read them: the backend that WAYBILL_RESULT_BACKEND names, else a folder.

docker-compose.yml gives its workers Redis, which a program beside it finds at redis://127.0.0.1:6379/0. For workers
that a lesson starts itself a folder is enough: it needs no server and does chords.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from celery.exceptions import TimeoutError as NoResult
from celery.result import AsyncResult, ResultBase

from waybill.celery_app.broker_url import masked
from waybill.celery_app.private import drop_result_backend
from waybill.cli.ending import ending
from waybill.errors import FleetError, InputError

VARIABLE = "WAYBILL_RESULT_BACKEND"

# Seconds between two looks for a result: a folder tells nobody when one has come.
LOOK_EVERY = 0.02
# Seconds in which a result has to come.
RESULT_TIMEOUT = 60.0


@contextmanager
def kept(app: Celery, is_ours: bool) -> Iterator[dict[str, str]]:
    """Point the application at a result backend for the length of the block.

    Args:
        is_ours: the workers are started here, and take the backend that they are told.

    Returns:
        The variables with which a worker uses the same one; none when only the workers know theirs.
    """
    named = os.environ.get(VARIABLE)
    with ending.folder("waybill-results-") as folder:
        url = named or (f"file://{folder}" if is_ours else None)
        before = app.conf.result_backend
        _use(app, url)
        try:
            yield {VARIABLE: url} if url else {}
        finally:
            _use(app, before)


def _use(app: Celery, url: str | None) -> None:
    app.conf.result_backend = url
    drop_result_backend(app)  # it keeps the one that it has made


def require(app: Celery) -> None:
    """Refuse a lesson that reads results where nobody knows where the workers keep them."""
    if not app.conf.result_backend:
        raise InputError(
            f"this lesson reads results: name the workers' result backend in {VARIABLE}; "
            "that of docker-compose.yml is redis://127.0.0.1:6379/0"
        )


def require_chords(app: Celery) -> None:
    """Refuse a result backend that can't do chords: Celery's own answer, asked before anything is published."""
    try:
        app.backend.ensure_chords_allowed()
    except NotImplementedError as error:
        raise InputError(
            f"the result backend {masked(str(app.conf.result_backend))} can't do chords: name another one in "
            f"{VARIABLE}, such as redis://127.0.0.1:6379/0, for this program and the workers"
        ) from error


def outcome(result: ResultBase, propagate: bool = True) -> object:
    """What a task, or a group, returned.

    Args:
        propagate: raise what the task raised.

    Raises:
        FleetError: nothing came in time.
    """
    try:
        return result.get(timeout=RESULT_TIMEOUT, interval=LOOK_EVERY, propagate=propagate)
    except NoResult as error:
        backend = masked(str(result.app.conf.result_backend))
        raise FleetError(
            f"no result of {_shown(result)} within {RESULT_TIMEOUT:.0f} s in {backend}: "
            "do the workers run, and keep their results there?"
        ) from error


def _shown(result: ResultBase) -> str:
    return f"the task {result.id}" if isinstance(result, AsyncResult) else "a group"
