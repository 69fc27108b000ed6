"""The fleet as facts: the workers as described, the tasks that those of other applications know, and the settings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from celery import Celery

from waybill.celery_app.fleet.reading import read_fleet
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


def fleet_facts(
    paths: Path | Sequence[Path], app: Celery, name: str | None, ignored: Collection[str] = ()
) -> FleetFacts:
    """The fleet that these files describe.

    Args:
        app: the application that is checked; it knows what a worker without `-Q` consumes.
        name: as `-A` names it; the workers of others are asked which tasks they know. Without it nobody is.
        ignored: services that are left out.

    Raises:
        InputError: a file can't be read.
    """
    fleet = read_fleet(paths, app=app, ignored=ignored, allow_duplicate_names=True)
    tasks: dict[str, frozenset[str]] = {}
    unloaded: dict[str, str] = {}
    for other in sorted({worker.app for worker in fleet if worker.app and worker.app != name} if name else ()):
        try:
            tasks[other] = _tasks_of(other)
        except InputError as error:
            services = [worker.service for worker in fleet if worker.app == other]
            unloaded[other] = f"{error} ({', '.join(services)})"
    return FleetFacts(fleet.workers, tasks, fleet.unread, unloaded, is_of_others=fleet.of(name) is None)


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
        raise InputError(f"the application {app!r} can't be loaded here: {lines[-1] if lines else error}") from error
