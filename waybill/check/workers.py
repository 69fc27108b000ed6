"""The fleet as facts: the workers as described, the tasks that those of other applications know, and the settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from celery import Celery

from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.neighbours import Neighbour, address_of, neighbours
from waybill.check.facts import FleetFacts
from waybill.errors import InputError


def fleet_facts(
    paths: Path | Sequence[Path],
    app: Celery,
    name: str | None,
    ignored: Collection[str] = (),
    others: Sequence[Neighbour] = (),
) -> tuple[FleetFacts, tuple[Neighbour, ...]]:
    """The fleet that these files describe, and the applications that its workers run beside this one.

    Args:
        app: the application that is checked; it knows what a worker without `-Q` consumes.
        name: as `-A` names it; the workers' other applications are loaded, each in a process of its own. Without it
            none are.
        ignored: services that are left out.
        others: applications that are known already.

    Raises:
        InputError: a file can't be read.
    """
    found = {one.name: one for one in others}
    unloaded: dict[str, str] = {}
    described = read_fleet(paths, ignored=ignored, allow_duplicate_names=True) if name else Fleet(())
    for other in sorted({worker.app for worker in described if worker.app and worker.app != name}):
        if other in found:
            continue
        try:
            (found[other],) = neighbours([other])
        except InputError as error:
            services = [worker.service for worker in described if worker.app == other]
            unloaded[other] = f"{error} ({', '.join(services)})"
    consumed = {one.name: one.consumed for one in found.values()}
    fleet = read_fleet(paths, app=app, name=name, others=consumed, ignored=ignored, allow_duplicate_names=True)
    tasks = {one.name: one.tasks for one in found.values()}
    ours = address_of(app)
    beside = tuple(one for one in found.values() if one.broker == ours)
    facts = FleetFacts(fleet.workers, tasks, fleet.unread, unloaded, is_of_others=fleet.of(name) is None)
    return facts, beside


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
