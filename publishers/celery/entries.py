"""Ways to make the application and to start its worker, all with one result: python -m publishers.celery.entries

worker/app.py         `Celery(include=[...])`, then `config_from_object("worker.celeryconfig")`
worker/standalone.py  the constructor alone, with `include=[...]` and the settings as arguments
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from exchanges import fanout, lanes
from publishers.support.control import ask
from publishers.support.opening import COMPOSE, gather, local_workers
from publishers.support.program import publisher
from publishers.support.stage import Stage
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Worker
from waybill.celery_app.names import BROADCAST_PREFIX, worker_name
from waybill.cli.running import run
from waybill.errors import FleetError
from waybill.testing.delivery import Delivery
from waybill.testing.watch import Watch
from worker import tasks
from worker.app import app

# The settings that the environment decides: a worker in a container knows the broker by another address than we do.
ADDRESSES = {"broker_url", "broker_read_url", "broker_write_url", "result_backend"}

OWN_QUEUE = re.compile(rf"{re.escape(BROADCAST_PREFIX)}[0-9a-f-]+")

# A worker that nobody sends anything to but announcements takes no task from the others.
ANNOUNCEMENTS = fanout.BROADCASTS[0]
OPTIONS = ("-c", "1", "--without-mingle", "--without-gossip")


def entry(name: str, module: str, *arguments: str) -> Worker:
    """A worker of the lesson's own."""
    queue = str(ANNOUNCEMENTS.alias)
    return Worker(name, f"{name}@%h", (queue,), (*arguments, "-n", f"{name}@%h", "-Q", queue, *OPTIONS), module)


# `celery -A worker` finds the application in the package; `python -m worker` is worker/__main__.py.
OURS = (entry("by_command", "celery", "-A", "worker", "worker"), entry("by_module", "worker"))
# The service of docker-compose.yml whose application is made by the constructor.
SERVICE = "standalone"


def lesson(stage: Stage) -> None:
    """Start a worker by each entry point, announce something to all of them, and compare their settings."""
    (service,) = read_fleet(COMPOSE).named([SERVICE])
    if not stage.workers_of(lanes.standalone):
        raise FleetError(f"no worker consumes {lanes.standalone.name!r}: start the service {SERVICE!r}")
    entries = (*OURS, service)
    with started(stage) as watch:
        watch.publish(tasks.announce.name, ("hello",), exchange=ANNOUNCEMENTS.exchange.name, exchange_type="fanout")
        (announced,) = watch.settle()
        settings = settings_of(watch, [worker.name for worker in entries])
    for worker in entries:
        tell_entry(stage, worker, announced)
    tell_settings(stage, settings)
    with stage.recording():
        tasks.work.apply_async(queue=lanes.standalone.name, mandatory=True)
    stage.show()


@contextmanager
def started(stage: Stage) -> Iterator[Watch]:
    """Start our workers, and watch them beside those that are there."""
    others = [worker_name(worker) for worker in stage.watch.consumers_by_worker]
    with local_workers(OURS, stage.environment, stage.zygote) as workers, Watch(app) as watch:
        gather(watch, OURS, workers, others)
        yield watch


def settings_of(watch: Watch, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Worker -> its effective settings, Celery's defaults included, as the worker itself tells them.

    Raises:
        FleetError: a worker did not answer in time.
    """
    asked = [worker for worker in watch.consumers_by_worker if worker_name(worker) in names]
    answers = ask("conf", asked, with_defaults=True)
    return {worker_name(worker): answer for worker, answer in answers.items()}


def shown(worker: Worker) -> str:
    """The command, without the options that say where this worker listens."""
    start = " ".join(worker.arguments).partition(" -n ")[0] if worker.module == "celery" else ""
    return f"celery {start}" if start else f"python -m {worker.module}"


def tell_entry(stage: Stage, worker: Worker, announced: Delivery) -> None:
    """One line: that this worker runs, and takes tasks."""
    received = [one for one in announced.received if one.worker_name == worker.name]
    happened = f"{worker.name} received the announcement" * len(received) or f"{worker.name} received nothing"
    stage.tell(
        shown(worker),
        happened,
        task_id=announced.publication.task_id,
        worker=worker.name,
    )


def tell_settings(stage: Stage, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """One line: the settings that are not the same in all of these workers. Their values are nobody's business."""
    names = sorted({name for told in settings.values() for name in told} - ADDRESSES)
    differing = [name for name in names if len({comparable(told.get(name)) for told in settings.values()}) > 1]
    happened = f"differ in {', '.join(differing)}" if differing else "the same"
    stage.tell(
        f"settings of the {len(settings)}",
        happened,
        workers=sorted(settings),
        settings=names,
        differing=differing,
    )


def comparable(value: Any) -> str:
    """A setting's value, without what differs between any two workers of one application.

    The queue of a Broadcast is named anew in each, and each adds the modules of its tasks to `include` as a set.
    """
    ordered = sorted(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value
    return OWN_QUEUE.sub(BROADCAST_PREFIX, json.dumps(ordered, sort_keys=True))


main = publisher((lanes.standalone,))(lesson)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.entries")
