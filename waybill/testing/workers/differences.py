"""Why a worker cannot be a fork of the zygote: what it would find otherwise than as a program of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from waybill.testing.workers.loading import Loading
from waybill.testing.workers.messages import Start

# These pools replace parts of the standard library, which has to come first (celery/__init__.py,
# maybe_patch_concurrency).
PATCHING_POOLS = ("eventlet", "gevent")

# Read by the interpreter or the loader at start, before anybody notes it.
FIRST_READ = ("PYTHON", "LD_", "LC_", "LANG")


def no_fork_reason(job: Start, loading: Loading, environment: Mapping[str, str] = os.environ) -> str:
    """What would differ in a fork, the first thing of all, in a few words; empty when nothing would.

    Args:
        loading: what the zygote has loaded.
        environment: the zygote's own.
    """
    return next(_reasons(job, loading, environment), "")


def _reasons(job: Start, loading: Loading, environment: Mapping[str, str]) -> Iterator[str]:
    directory = Path(job.directory)
    yield from sorted(loading.side_effects)
    if loading.applications and (application := _application(job)) not in loading.applications:
        yield f"libraries that {application} may not load"
    if pool := _patching_pool(job.arguments):
        yield f"the pool {pool}"
    if names := _changed_variables(loading, environment, job.environment):
        yield f"the environment: {', '.join(sorted(names))}"
    if not directory.is_dir():
        yield f"no folder {directory}"
    elif names := _shadowing(directory, sys.modules):
        yield f"modules of {directory}: {', '.join(sorted(names))}"


def _changed_variables(loading: Loading, ours: Mapping[str, str], theirs: Mapping[str, str]) -> set[str]:
    """The variables that what is loaded here has looked at, and that have other values there."""
    names = loading.variables | {name for name in {**ours, **theirs} if name.startswith(FIRST_READ)}
    return {name for name in names if ours.get(name) != theirs.get(name)}


def _application(job: Start) -> str:
    """The top-level module of the application that a worker is to load."""
    named = (value for option, value in pairwise(job.arguments) if option in ("-A", "--app"))
    return next(named, job.module).partition(":")[0].partition(".")[0]


def _patching_pool(arguments: Sequence[str]) -> str:
    """The pool for which Celery would patch the standard library before all else; empty for another."""
    named = [
        *(value for option, value in pairwise(arguments) if option in ("-P", "--pool")),
        *(word.removeprefix("--pool=").removeprefix("-P") for word in arguments if word.startswith(("--pool=", "-P"))),
    ]
    return next((pool for pool in named if pool in PATCHING_POOLS), "")


def _shadowing(directory: Path, loaded: Mapping[str, object]) -> set[str]:
    """The modules of a directory whose names are taken by modules that were loaded from elsewhere."""
    found = set()
    for entry in directory.iterdir():
        name = entry.stem if entry.suffix == ".py" else entry.name
        if name in loaded and (entry.suffix == ".py" or (entry / "__init__.py").exists()):
            origin = getattr(loaded[name], "__file__", None)
            if origin is None or directory.resolve() not in Path(origin).resolve().parents:
                found.add(name)
    return found
