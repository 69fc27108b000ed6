"""What a command is about: the application, the configuration of its project, and its fleet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from celery import Celery

from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.loading import load_application
from waybill.cli.configuration import Configuration, find_configuration
from waybill.cli.group import APPLICATION
from waybill.cli.terminal import print_note
from waybill.errors import InputError

# Where the configuration is kept in a click context's `meta`, once it is read.
CONFIGURATION = "waybill.configuration"


def configuration_of(ctx: click.Context) -> Configuration:
    """What pyproject.toml says, read once for a command."""
    if CONFIGURATION not in ctx.meta:
        ctx.meta[CONFIGURATION] = find_configuration(Path.cwd())
    found: Configuration = ctx.meta[CONFIGURATION]
    return found


def _given(ctx: click.Context) -> str | Celery | None:
    """The application of our `-A`, or that of `celery -A`, which Celery has loaded."""
    ours: str | None = ctx.meta.get(APPLICATION)
    outer: Any = ctx.find_root().params.get("app")
    return ours or (ctx.obj.app if outer is not None else None)


def application_name(ctx: click.Context) -> str | None:
    """The application's name, as one would write it behind `-A`."""
    outer = ctx.find_root().params.get("app")
    return ctx.meta.get(APPLICATION) or (outer if isinstance(outer, str) else None) or configuration_of(ctx).app


def application_of(ctx: click.Context) -> Celery:
    """The application of our `-A`, or of `celery -A`, or `app` in pyproject.toml.

    It is looked for in the current folder and in that of pyproject.toml; first in that of the file that names it.

    Raises:
        InputError: none is named, or it cannot be loaded.
    """
    configuration, given = configuration_of(ctx), _given(ctx)
    folders = list(dict.fromkeys((Path.cwd(), configuration.folder or Path.cwd())))
    if given is not None:
        return load_application(given, folders)
    if configuration.app is None:
        raise InputError(
            "which application? expected `waybill -A proj ...`, as for `celery -A proj`, or `app` in [tool.waybill] of "
            "pyproject.toml"
        )
    return load_application(configuration.app, reversed(folders))


def fleet_paths(ctx: click.Context, given: Sequence[Path], without_fleet: bool) -> tuple[Path, ...]:
    """The files that describe the workers: those of `--fleet`, or `fleet` in pyproject.toml without `--no-fleet`.

    Raises:
        click.UsageError: both options are given.
    """
    if given and without_fleet:
        raise click.UsageError("--fleet and --no-fleet exclude each other")
    return () if without_fleet else tuple(given) or configuration_of(ctx).fleet


def fleet_of(
    ctx: click.Context, app: Celery, fleet: Sequence[Path], without_fleet: bool, ignored: Sequence[str]
) -> Fleet | None:
    """The workers that the files of `fleet_paths` describe; what couldn't be read of them is said on standard error.

    Raises:
        InputError: a file cannot be read.
    """
    paths = fleet_paths(ctx, fleet, without_fleet)
    if not paths:
        return None
    found = read_fleet(paths, app=app, ignored=ignored, allow_duplicate_names=True)
    for one in found.unread:
        print_note(f"not read: {one}")
    return found
