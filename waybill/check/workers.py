"""The fleet as facts: the workers as described, the tasks that those of other applications know, and the settings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from celery import Celery

from waybill.celery_app.fleet.reading import is_procfile, read_fleet
from waybill.celery_app.fleet.workers import Worker
from waybill.check.facts import FleetFacts
from waybill.errors import InputError

# Seconds that an application of the fleet may take to load.
LOAD_SECONDS = 60.0

# What a process of its own prints: an application loaded into ours would register its shared tasks there too.
_TASKS_OF = """
import contextlib, json, os, sys
sys.path.insert(0, os.getcwd())
from celery.app.utils import find_app
with contextlib.redirect_stdout(sys.stderr):
    app = find_app(sys.argv[1])
    app.loader.import_default_modules()
    app.finalize()
print(json.dumps(sorted(app.tasks)))
"""


def fleet_facts(path: Path, all_queues: Iterable[str], app: str | None) -> FleetFacts:
    """The fleet that a file describes.

    Args:
        all_queues: what a worker without `-Q` consumes.
        app: the name of the application that is checked; the workers of others are asked which tasks they know.

    Raises:
        InputError: the file can't be read, or an application can't be loaded.
    """
    fleet = read_fleet(path, all_queues=all_queues, allow_twins=True)
    others = {name for worker in fleet if (name := option(worker, "-A", "--app")) and name != app}
    tasks = {name: _tasks_of(name) for name in sorted(others)} if app else {}
    return FleetFacts(fleet.workers, is_procfile(path), tasks)


def option(worker: Worker, *names: str) -> str | None:
    """The value of an option of the worker's command, in any of the ways to write it."""
    return option_of(worker.arguments, names)


def option_of(arguments: Sequence[str], names: Iterable[str]) -> str | None:
    for at, word in enumerate(arguments):
        for name in names:
            if word == name and at + 1 < len(arguments):
                return arguments[at + 1]
            if name.startswith("--") and word.startswith(f"{name}="):
                return word.partition("=")[2]
            if not name.startswith("--") and word.startswith(name) and word != name and not word.startswith("--"):
                return word[len(name) :].removeprefix("=")
    return None


def prefetch_multiplier(app: Celery) -> int:
    """How many messages a worker takes in advance for each of its processes.

    Celery's workers make a number of it, too: from an environment variable it comes as text.

    Raises:
        InputError: it is none, and a worker would not start.
    """
    given = app.conf.worker_prefetch_multiplier
    try:
        return int(given)
    except (TypeError, ValueError) as error:
        raise InputError(f"worker_prefetch_multiplier: expected a whole number, got {given!r}") from error


def concurrency(app: Celery) -> int | None:
    """The processes of a worker that is told no number.

    What is no number, such as `auto`, a worker sets to what its machine has: here None.
    """
    try:
        return int(app.conf.worker_concurrency) or None
    except (TypeError, ValueError):
        return None


def _tasks_of(app: str) -> frozenset[str]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TASKS_OF, app], capture_output=True, text=True, timeout=LOAD_SECONDS, check=True
        )
        return frozenset(json.loads(done.stdout))
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise InputError(
            f"cannot load the application {app!r} of the fleet: {lines[-1] if lines else error}"
        ) from error
