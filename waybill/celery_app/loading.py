"""Load a Celery application by its name, as `celery -A` does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

from celery import Celery
from celery.app.utils import find_app

from waybill.celery_app.declared import queues_of
from waybill.errors import InputError


def load_application(named: str | Celery, folders: Iterable[Path] = ()) -> Celery:
    """The application, with its tasks.

    Args:
        named: its name, such as `proj` or `proj.celery:app`; or the application, whose tasks are then loaded.
        folders: where its modules are looked for first, in this order.

    Raises:
        InputError: it cannot be loaded, or its setting `task_queues` holds something else than queues.
    """
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        # A module of the application may print while it's loaded, and may leave the interpreter.
        with contextlib.redirect_stdout(sys.stderr):
            app = find_app(named) if isinstance(named, str) else named
            app.loader.import_default_modules()
            app.finalize()
    except (Exception, SystemExit) as error:
        called = named if isinstance(named, str) else named.main
        raise InputError(f"cannot load the application {called!r}: {type(error).__name__}: {error}") from error
    queues_of(app)
    return app
