"""The showcase for a session's tests: its whole fleet at a vhost of its own, and one run of each lesson there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from publishers.__main__ import LESSONS
from publishers.celery.canvas import publications
from publishers.support.control import ask
from publishers.support.opening import COMPOSE
from tests.support.programs import ROOT, Result, call
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.receipts import Receipt
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers, Zygote
from worker.app import app

# Worker -> the queues that it consumes, and its prefetch.
State = dict[str, tuple[list[str], int]]


@dataclass(frozen=True)
class Showcase:
    """The fleet on one broker.

    Attributes:
        watch: has made its roll call.
        state: how the workers were when they had started.
    """

    address: Address
    fleet: Fleet
    workers: LocalWorkers
    watch: Watch
    state: State

    def clear(self) -> None:
        """Settle what a test has published and not asked about."""
        if self.watch._pending:
            self.watch.settle()


@contextmanager
def started(address: Address, zygote: Zygote) -> Iterator[Showcase]:
    """Start every worker that docker-compose.yml describes, and watch them."""
    fleet = read_fleet(COMPOSE)
    with LocalWorkers(fleet, brokers.environment(address.url), ROOT, zygote) as workers, ExitStack() as stack:
        with pointed(address):
            watch = stack.enter_context(Watch(app))
            watch.discover_workers([worker.name for worker in fleet], workers.check_alive)
            made = Showcase(address, fleet, workers, watch, state_of(watch))
        yield made
        with pointed(address):
            stack.close()
        workers.stop(wait=False)


@contextmanager
def pointed(address: Address) -> Iterator[None]:
    """The application is at this vhost for the length of the block, and no longer: other modules need it elsewhere."""
    with brokers.use_broker(app, address.url):
        yield


def state_of(watch: Watch) -> State:
    """How the workers are now; the application must be at their broker."""
    workers = sorted(watch.consumers_by_worker)
    queues, stats = ask("active_queues", workers), ask("stats", workers)
    return {
        worker: (sorted(queue["name"] for queue in queues[worker]), stats[worker]["prefetch_count"])
        for worker in workers
    }


@dataclass(frozen=True)
class Played:
    """One run of a lesson, with its default arguments.

    Attributes:
        result: what it printed, for people.
        objects: what `--json` prints.
        published: the ids of what was published meanwhile by this process.
        received: every receipt of that time, as another watch than the lesson's saw it.
    """

    result: Result
    objects: list[dict[str, Any]]
    published: list[str]
    received: tuple[Receipt, ...]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The objects of a lesson that ended well, and complained of nothing."""
        assert (self.result.code, self.result.err) == (0, "")
        return self.objects

    @property
    def by_what(self) -> dict[str, dict[str, Any]]:
        """The lines by what was done; none of them twice."""
        found = {line["what"]: line for line in self.lines}
        assert len(found) == len(self.lines)
        return found

    def receipts_of(self, task_ids: Iterable[str]) -> dict[str, tuple[Receipt, ...]]:
        """Task id -> its receipts, in the order of the workers' clocks."""
        received = sorted(self.received, key=lambda one: one.time)
        return {task_id: tuple(one for one in received if one.task_id == task_id) for task_id in task_ids}


class Lessons:
    """Each lesson, played on the showcase when somebody first asks for it: `lessons["topic"]`."""

    def __init__(self, showcase: Showcase) -> None:
        self._showcase = showcase
        self._played: dict[str, Played] = {}

    def __getitem__(self, name: str) -> Played:
        if name not in self._played:
            self._played[name] = self._play(name)
        return self._played[name]

    def _play(self, name: str) -> Played:
        watch = self._showcase.watch
        watch.settle()
        with tempfile.NamedTemporaryFile(suffix=".json") as record, publications() as published:
            result = call(LESSONS[name][1].__module__, "--broker", self._showcase.address.url, "--record", record.name)
            objects = [json.loads(line) for line in Path(record.name).read_text(encoding="utf-8").splitlines()]
        return Played(result, objects, published, watch.everything())
