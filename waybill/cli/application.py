"""What a command is about: the application, the configuration of its project, and its fleet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from celery import Celery

from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.loading import load_application
from waybill.celery_app.neighbours import Neighbour, neighbours
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


def application_names(ctx: click.Context) -> tuple[str, ...]:
    """The applications as one would write them behind `-A`: the first one, then those beside it."""
    outer = ctx.find_root().params.get("app")
    ours: tuple[str, ...] = ctx.meta.get(APPLICATION) or ()
    return ours or ((outer,) if isinstance(outer, str) else ()) or configuration_of(ctx).apps


def is_application_given(ctx: click.Context) -> bool:
    """Whether the command line names an application; pyproject.toml may name one, too."""
    return bool(ctx.meta.get(APPLICATION)) or ctx.find_root().params.get("app") is not None


def application_name(ctx: click.Context) -> str | None:
    """The name of the first application."""
    return next(iter(application_names(ctx)), None)


def application_of(ctx: click.Context) -> Celery:
    """The application of our first `-A`, or of `celery -A`, or `app` in pyproject.toml.

    Raises:
        InputError: none is named, or it cannot be loaded.
    """
    is_celerys = not ctx.meta.get(APPLICATION) and ctx.find_root().params.get("app") is not None
    if is_celerys:  # Celery has loaded it
        return load_application(ctx.obj.app, folders_of(ctx))
    name = application_name(ctx)
    if name is None:
        raise InputError(
            "which application? expected `waybill -A proj ...`, as for `celery -A proj`, or `app` in [tool.waybill] of "
            "pyproject.toml"
        )
    return load_application(name, folders_of(ctx))


def only_application_of(ctx: click.Context) -> Celery:
    """The application, for a command that is about one.

    Raises:
        click.UsageError: several are named.
        InputError: as of `application_of`.
    """
    if len(names := application_names(ctx)) > 1:
        raise click.UsageError(f"this command takes one application, got {', '.join(names)}")
    return application_of(ctx)


def neighbours_of(ctx: click.Context, app: Celery) -> tuple[Neighbour, ...]:
    """The applications beside the first, each loaded in a process of its own.

    Raises:
        InputError: one cannot be loaded, or is on another broker or vhost.
    """
    first, *others = application_names(ctx) or (None,)
    return neighbours([name for name in others if name], folders_of(ctx), app, first or "the application")


def folders_of(ctx: click.Context) -> list[Path]:
    """Where applications are looked for: in the current folder and in that of pyproject.toml.

    The folder of the file that names them is the first.
    """
    configuration = configuration_of(ctx)
    folders = list(dict.fromkeys((Path.cwd(), configuration.folder or Path.cwd())))
    return folders if is_application_given(ctx) else folders[::-1]


def fleet_paths(ctx: click.Context, given: Sequence[Path], without_fleet: bool) -> tuple[Path, ...]:
    """The files that describe the workers: those of `--fleet`, or `fleet` in pyproject.toml without `--no-fleet`.

    Raises:
        click.UsageError: both options are given.
    """
    if given and without_fleet:
        raise click.UsageError("--fleet and --no-fleet exclude each other")
    return () if without_fleet else tuple(given) or configuration_of(ctx).fleet


def fleet_of(
    ctx: click.Context,
    app: Celery,
    fleet: Sequence[Path],
    without_fleet: bool,
    ignored: Sequence[str],
    others: Iterable[Neighbour] = (),
) -> Fleet | None:
    """The workers that the files of `fleet_paths` describe; what couldn't be read of them is said on standard error.

    Args:
        others: the applications beside this one.

    Raises:
        InputError: a file cannot be read.
    """
    paths = fleet_paths(ctx, fleet, without_fleet)
    if not paths:
        return None
    found = read_fleet(
        paths,
        app=app,
        name=application_name(ctx),
        others={one.name: one.consumed for one in others},
        ignored=ignored,
        allow_duplicate_names=True,
    )
    for one in found.unread:
        print_note(f"not read: {one}")
    return found
