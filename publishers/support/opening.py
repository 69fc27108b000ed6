"""A stage is opened: a broker, and the workers that a lesson needs; all of it is taken down again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from kombu import Queue

import exchanges
from publishers.support import results
from publishers.support.stage import Stage
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet, Worker
from waybill.celery_app.names import worker_name
from waybill.cli.ending import ending
from waybill.cli.status import status
from waybill.testing import brokers
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers, Zygote
from worker.app import app

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"

BROKERS = {brokers.EMBEDDED: "the embedded broker", brokers.DOCKER: "RabbitMQ in a container"}

# Seconds in which the stage is left after a signal, before the program ends where it stands. Nothing on the embedded
# broker outlives us; any other broker gets back what a lesson has changed there, and a container has to be stopped.
HASTE, PATIENCE = 1.0, 20.0


def names(queues: Iterable[Queue]) -> set[str]:
    """The queues' names as `-Q` gives them: a Broadcast by the name of its exchange."""
    return {queue.alias or queue.name for queue in queues}


@contextmanager
def open_stage(
    broker: str,
    needs: Iterable[Queue],
    is_json: bool,
    is_tour: bool = False,
    needs_results: bool = False,
    record: IO[str] | None = None,
) -> Iterator[Stage]:
    """A stage on this broker.

    Args:
        broker: `embedded`, `docker` or a URL.
        needs: the queues whose workers are needed.
        is_tour: also start the fleet on a running broker when no worker answers on it.
        needs_results: refuse a broker whose workers keep their results nobody knows where.
        record: where to write what `--json` prints, in any case.
    """
    is_ours = broker in (brokers.EMBEDDED, brokers.DOCKER)
    with ExitStack() as stack:
        stack.enter_context(ending.time_limit(HASTE if broker == brokers.EMBEDDED else PATIENCE))
        zygote = stack.enter_context(Zygote()) if is_ours else None  # it loads Celery while the broker starts
        with status.working(f"{'starting' if is_ours else 'connecting to'} {title(broker)}"):
            address = stack.enter_context(brokers.broker(broker))
            stack.enter_context(brokers.use_broker(app, address.url))
            with brokers.connect(app) as connection:
                missing = brokers.missing_exchange_types(connection, exchanges.TYPES)
                exchanges.declare(connection, missing)
        fleet = read_fleet(COMPOSE).consuming(names(needs))
        if missing:
            fleet = fleet.without(names(exchanges.QUEUES) - names(exchanges.queues_without(missing)))
        watch = None if is_ours else stack.enter_context(_existing(is_tour))
        where = stack.enter_context(results.kept(app, is_ours=watch is None))
        if needs_results:
            results.require(app)
        # A worker that is killed leaves what it keeps there.
        temporary = stack.enter_context(ending.folder("waybill-workers-"))
        environment = {**brokers.environment(address.url), **where, "TMPDIR": str(temporary)}
        if watch is None:
            zygote = zygote or stack.enter_context(Zygote())
            watch = stack.enter_context(_started(fleet, environment, zygote))
        yield Stage(watch, missing, is_json, environment, zygote, record)


def title(broker: str) -> str:
    """What people call the broker."""
    return BROKERS.get(broker, "the running broker")


@contextmanager
def _existing(is_tour: bool) -> Iterator[Watch | None]:
    """Watch the workers that run there; None when the tour has to start them."""
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(app))
        with status.working("looking for the workers that run there"):
            watch.discover_workers()
        if watch.consumers_by_worker or not is_tour:
            yield watch
            return
        stack.close()
        yield None


@contextmanager
def local_workers(
    fleet: Iterable[Worker], environment: Mapping[str, str], zygote: Zygote | None = None
) -> Iterator[LocalWorkers]:
    """The showcase's workers as processes, for the length of the block.

    They are killed at its end, warm shutdown or not: a block that ended well has proven that no message is on its way,
    and of one that was interrupted nothing is needed any more.

    Args:
        zygote: who starts them; None for one of their own.
    """
    # A program that isn't left in time takes them down all the same: the zygote ends with it.
    with ending.time_limit(HASTE), LocalWorkers(fleet, environment, ROOT, zygote) as workers:
        try:
            yield workers
        finally:
            with status.working(f"stopping {len(workers.workers)} workers"):
                workers.stop(grace=0.0)


def gather(watch: Watch, fleet: Collection[Worker], workers: LocalWorkers, others: Iterable[str] = ()) -> None:
    """Wait until these workers, which have been started, and the others have answered the roll call.

    Raises:
        FleetError: a worker has ended, or did not answer in time.
    """
    own = {worker.name for worker in fleet}
    text = f"starting {len(own)} workers"
    with status.working(text) as update:

        def look() -> None:
            workers.check_alive()
            ready = own & set(map(worker_name, watch.consumers_by_worker))
            update(f"{text}: {len(ready)} of {len(own)} are ready")

        watch.discover_workers([*others, *own], look)


@contextmanager
def _started(fleet: Fleet, environment: Mapping[str, str], zygote: Zygote | None) -> Iterator[Watch]:
    """Start the fleet and watch it."""
    with local_workers(fleet, environment, zygote) as workers, Watch(app) as watch:
        gather(watch, tuple(fleet), workers)
        yield watch
