"""A fleet as values: the workers, and what of its description couldn't be read. Nothing but the standard library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from waybill.celery_app.names import BROADCAST_PREFIX, worker_name
from waybill.errors import UnknownName


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker of the fleet, as described.

    Attributes:
        service: the name of its service, program or Procfile line.
        node_name: what `-n` says, such as `videos@%h`; `celery@%h` where it says nothing.
        queues: what it consumes, in that order: `-Q` without `-X`; without `-Q` all that the application declares.
        arguments: the command behind the word `celery`.
        module: what Python runs with them (`python -m celery`).
        app: what `-A` says; None where it says nothing.
        concurrency, prefetch_multiplier: what `-c` (or the largest of `--autoscale`) and `--prefetch-multiplier` say.
        pool: what `-P` says.
        has_own_host: it runs in a container of its own, so that `%h` differs from that of every other worker.
        copies: how many of it run (`replicas`, `numprocs`).
        source: the file that describes it.
    """

    service: str
    node_name: str
    queues: tuple[str, ...]
    arguments: tuple[str, ...]
    module: str = "celery"
    app: str | None = None
    concurrency: int | None = None
    prefetch_multiplier: int | None = None
    pool: str | None = None
    has_own_host: bool = True
    copies: int = 1
    source: str = ""

    @property
    def name(self) -> str:
        """The node name without its host."""
        return worker_name(self.node_name)


@dataclass(frozen=True, slots=True)
class Unread:
    """A service that may run a worker, and couldn't be read.

    Attributes:
        reason: why, such as "its script ./start.sh isn't here".
    """

    service: str
    reason: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.service} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers, in the order of their description.

    Attributes:
        unread: the services that may run a worker too; while there are any, nobody knows who else consumes a queue.
    """

    workers: tuple[Worker, ...]
    unread: tuple[Unread, ...] = ()

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers)

    @property
    def is_complete(self) -> bool:
        """Whether every worker is known."""
        return not self.unread

    def consuming(self, queues: Iterable[str]) -> Fleet:
        """The workers that consume at least one of these queues."""
        wanted = set(queues)
        return self._of(worker for worker in self.workers if wanted & set(worker.queues))

    def consumers(self, queue: str) -> tuple[str, ...]:
        """The names of the workers that consume this queue; that of a Broadcast is known by its alias in `-Q`."""
        return tuple(worker.name for worker in self.consuming({queue, queue.removeprefix(BROADCAST_PREFIX)}))

    def of(self, app: str | None) -> Fleet | None:
        """This fleet, where a worker of the application is in it; None else: it doesn't say what is declared then.

        Args:
            app: as `-A` names it; without it the fleet is taken to be its own.
        """
        is_its = app is None or any(worker.app is None or is_same(worker.app, app) for worker in self)
        return self if is_its else None

    def may_declare(self, queue: str, alias: str | None = None) -> bool:
        """Whether one of its workers declares a queue at its start: each declares what it consumes, and no more.

        Args:
            alias: what `-Q` may call the queue.
        """
        names = {queue, alias or queue, queue.removeprefix(BROADCAST_PREFIX)}
        return not self.is_complete or bool(self.consuming(names).workers)

    def without(self, queues: Iterable[str]) -> Fleet:
        """The workers that consume none of these queues."""
        unwanted = set(queues)
        return self._of(worker for worker in self.workers if not unwanted & set(worker.queues))

    def named(self, names: Iterable[str]) -> Fleet:
        """The workers of these names.

        Raises:
            UnknownName: a name that no worker has.
        """
        wanted = set(names)
        known = [worker.name for worker in self.workers]
        for name in sorted(wanted.difference(known)):
            raise UnknownName("worker", name, known, "the fleet")
        return self._of(worker for worker in self.workers if worker.name in wanted)

    def _of(self, workers: Iterable[Worker]) -> Fleet:
        return Fleet(tuple(workers), self.unread)


def is_same(one: str, other: str) -> bool:
    """Whether two names of `-A` may be of one application, as `proj.celery:app` and `proj` are."""
    first, second = (re.sub(r"(\.(celery|app|celery_app))?(:.*)?$", "", name) + "." for name in (one, other))
    return first.startswith(second) or second.startswith(first)
