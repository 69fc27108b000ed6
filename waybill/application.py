"""The Celery application that a command is about: the one that `-A` names, or that of `celery -A proj waybill ...`."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click
from celery import Celery
from celery.app.utils import find_app

from waybill.configuration import Configuration, read_configuration
from waybill.errors import InputError
from waybill.topology.celery_app import queues_of

NAME = __name__
"""Where in a click context's `meta` the value of `-A` stands."""

CONFIGURATION = f"{NAME}.configuration"
"""And where the configuration does, once it is read."""


def configuration_of(ctx: click.Context) -> Configuration:
    """What pyproject.toml in the current folder says, read once for a command."""
    if CONFIGURATION not in ctx.meta:
        ctx.meta[CONFIGURATION] = read_configuration(Path.cwd())
    found: Configuration = ctx.meta[CONFIGURATION]
    return found


def name_of(ctx: click.Context) -> str | None:
    """The application's name as it was given: behind our `-A`, or behind that of `celery`, or in pyproject.toml."""
    given = ctx.meta.get(NAME) or ctx.find_root().params.get("app")
    return given or configuration_of(ctx).app


def load(ctx: click.Context) -> Celery:
    """The application: that of `celery -A`, or the one that `-A` names, or `app` in pyproject.toml.

    Raises:
        InputError: none is named, or it cannot be loaded, or its settings hold something else than queues.
    """
    outer: Any = getattr(ctx.obj, "app", None)  # set by the command `celery`
    name = ctx.meta.get(NAME) if outer is not None else name_of(ctx)
    if name is None and outer is None:
        raise InputError("which application? expected `waybill -A proj ...`, as for `celery -A proj`")
    sys.path.insert(0, os.getcwd())
    try:
        # A module of the application may print while it's loaded, and may leave the interpreter.
        with contextlib.redirect_stdout(sys.stderr):
            app = find_app(name) if name else outer
            app.loader.import_default_modules()
            app.finalize()
    except (Exception, SystemExit) as error:
        called = name or outer.main
        raise InputError(f"cannot load the application {called!r}: {type(error).__name__}: {error}") from error
    queues_of(app)
    return app
