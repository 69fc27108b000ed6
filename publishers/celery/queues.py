"""What queues are for, measured: python -m publishers.celery.queues isolation

Four parts. *balancing*: the workers of one queue share its messages. *isolation*: slow work delays quick work as long
as both wait for the same worker. *concurrency*: a worker runs as many tasks at once as it has processes. *priority*:
the highest comes first, among those that no worker has prefetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from exchanges import direct, lanes, priority
from publishers.support.charts import bar, profile
from publishers.support.control import ask, paused_consumers, prefetching
from publishers.support.program import publisher
from publishers.support.runs import Run, Sent, facts, finished, send, wait_for
from publishers.support.stage import Stage
from waybill.celery_app.names import worker_name
from waybill.cli.running import run
from waybill.errors import FleetError
from worker import tasks

WORK = priority.QUEUES[0]

# How many tasks are shared, and the seconds that each takes.
SHARED, SHORT = 12, 0.05
# Seconds for which a worker is kept busy, so that what is published meanwhile waits or goes elsewhere.
BUSY = 0.5
# The slow tasks in front of the quick ones, and the seconds that each takes.
SLOW_TASKS, SLOW = 3, 0.15
QUICK_TASKS = 4
# What one worker runs by itself, and the seconds that each takes.
NAPS, NAP = 4, 0.15
# In the order of publishing.
RISING = tuple(range(1, 10))
FALLING = RISING[::-1]
# A prefetch with room for all of these, and for the task that keeps the worker busy.
ROOM = len(RISING) + 1


def lesson(stage: Stage, parts: Sequence[str] = ()) -> None:
    """Measure what a PART says, with the workers that consume the queues; without a PART: all four."""
    chosen = [PARTS[part] for part in parts or PARTS]
    require_workers(stage)
    for show in chosen:
        show(stage)


def require_workers(stage: Stage) -> None:
    """Refuse a fleet with which there is nothing to compare, before anything is published.

    Raises:
        FleetError: a queue has too few workers.
    """
    shared, own = lane_workers(stage)
    needs = (
        (stage.workers_of(direct.images), 2, "two workers of the queue 'images'"),
        (shared, 1, "a worker of the queues 'slow' and 'quick'"),
        (own, 1, "a worker of the queue 'quick' alone"),
        (stage.workers_of(WORK), 1, "a worker of the queue 'tasks'"),
    )
    for found, least, what in needs:
        if len(found) < least:
            raise FleetError(f"this lesson needs {what}; found: {', '.join(found) or 'none'}")


def lane_workers(stage: Stage) -> tuple[list[str], list[str]]:
    """The workers of the queue `quick`: those that consume `slow` too, and the others."""
    slow = stage.workers_of(lanes.slow)
    quick = stage.workers_of(lanes.quick)
    return [one for one in quick if one in slow], [one for one in quick if one not in slow]


def balancing(stage: Stage) -> None:
    """Several workers, one queue: each message goes to one of them, and a busy one gets no more."""
    equal = [send(tasks.nap, SHORT, queue=direct.images.name) for _ in range(SHARED)]
    wait_for(equal)
    long = send(tasks.nap, BUSY, queue=direct.images.name)
    shared, unequal = finished(stage, equal, [long, *(send(tasks.work, queue=direct.images.name) for _ in equal[1:])])
    workers = stage.workers_of(direct.images)
    for worker in workers:
        tell_share(stage, f"balancing · {worker_name(worker)}", [one for one in shared if one.worker == worker])

    busy = next(one for one in unequal if one.task_id == long.result.id)
    meanwhile = [one for one in unequal if one.received < busy.done]
    theirs = [one for one in meanwhile if one.worker == busy.worker]
    tell_share(stage, "balancing · one has a long task", theirs)
    tell_share(stage, "balancing · the other meanwhile", [one for one in meanwhile if one not in theirs])


def tell_share(stage: Stage, what: str, runs: Sequence[Run]) -> None:
    """One worker's share of the shared tasks."""
    stage.tell(what, f"{bar(len(runs), SHARED)} {len(runs)} of {SHARED}", runs=facts(runs))


def isolation(stage: Stage) -> None:
    """How long quick tasks wait when slow ones are there: in the same worker, and in one of their own."""
    shared, own = lane_workers(stage)
    away = {"no worker of its own": own, "its own, and the shared one": [], "its own alone": shared}
    measured = finished(stage, *(slow_and_quick(stage, workers) for workers in away.values()))
    waits = [slowest([one for one in runs if one.queue == lanes.quick.name]) for runs in measured]
    for what, wait, runs in zip(away, waits, measured, strict=True):
        tell_seconds(stage, f"isolation · {what}", wait, SLOW_TASKS * SLOW, runs=facts(runs))


def slow_and_quick(stage: Stage, away: Sequence[str]) -> list[Sent]:
    """Slow tasks and then quick ones, done while these workers didn't consume `quick`."""
    with paused_consumers(stage, lanes.quick, away):
        slow = [send(tasks.nap, SLOW, queue=lanes.slow.name) for _ in range(SLOW_TASKS)]
        quick = [send(tasks.work, queue=lanes.quick.name) for _ in range(QUICK_TASKS)]
        wait_for([*slow, *quick])
    return [*slow, *quick]


def slowest(runs: Sequence[Run]) -> float:
    """Seconds that the slowest of these tasks took from its publication to its end."""
    return max(one.took for one in runs)


def concurrency(stage: Stage) -> None:
    """The same tasks by each worker of one queue, alone: as many at once as it has processes."""
    workers = stage.workers_of(lanes.quick)
    stats = ask("stats", workers)
    measured = finished(stage, *(naps(stage, [one for one in workers if one != worker]) for worker in workers))
    for worker, runs in zip(workers, measured, strict=True):
        processes = stats[worker]["pool"]["max-concurrency"]
        together = at_once(runs)
        what = f"concurrency · {worker_name(worker)}, processes: {processes}"
        tell_seconds(
            stage, what, slowest(runs), NAPS * NAP, f", {together} at once", at_once=together, runs=facts(runs)
        )


def naps(stage: Stage, away: Sequence[str]) -> list[Sent]:
    """Equal tasks that were done while these workers didn't consume `quick`."""
    with paused_consumers(stage, lanes.quick, away):
        sent = [send(tasks.nap, NAP, queue=lanes.quick.name) for _ in range(NAPS)]
        wait_for(sent)
    return sent


def at_once(naps: Sequence[Run]) -> int:
    """How many naps overlapped at most: each ran for the seconds that it returned, up to its end."""
    starts = [one.done - float(one.returned) for one in naps]
    return max(sum(start < end.done <= one.done for start, one in zip(starts, naps, strict=True)) for end in naps)


def tell_seconds(stage: Stage, what: str, seconds: float, most: float, note: str = "", **facts: Any) -> None:
    """A bar of seconds; the longest stands for the most that is expected."""
    stage.tell(what, f"{bar(seconds, most)} {seconds:.2f} s{note}", seconds=round(seconds, 4), **facts)


def order_of_service(stage: Stage) -> None:
    """A filled queue is served by priority; what a worker has prefetched is served as it came."""
    first, *others = stage.workers_of(WORK)
    with paused_consumers(stage, WORK, others):
        groups = [fill(stage, first) for fill in (filled, behind, prefetched)]
    whats = ("a filled queue", "filled behind a busy worker", f"the same, prefetch {ROOM}")
    for what, runs in zip(whats, finished(stage, *groups), strict=True):
        tell_order(stage, f"priority · {what}", [one for one in runs if one.returned != BUSY])


def rising() -> list[Sent]:
    """Tasks that say their priority, the lowest first."""
    return [send(tasks.work, str(value), queue=WORK.name, priority=value) for value in RISING]


def filled(stage: Stage, worker: str) -> list[Sent]:
    """The queue is filled while the worker looks away."""
    with paused_consumers(stage, WORK, [worker]):
        sent = rising()
    wait_for(sent)
    return sent


def behind(_stage: Stage, _worker: str) -> list[Sent]:
    """The queue is filled while the worker is busy."""
    sent = [send(tasks.nap, BUSY, queue=WORK.name), *rising()]
    wait_for(sent)
    return sent


def prefetched(stage: Stage, worker: str) -> list[Sent]:
    """The worker is busy, and has room for everything: the queue is never filled."""
    with prefetching(stage, WORK, [worker], ROOM):
        return behind(stage, worker)


def tell_order(stage: Stage, what: str, runs: Sequence[Run]) -> None:
    """The priorities in the order in which their tasks were done."""
    values = [int(one.returned) for one in runs]
    stage.tell(what, f"{profile(values, max(RISING))}  {' '.join(map(str, values))}", runs=facts(runs))


PARTS: dict[str, Callable[[Stage], None]] = {
    "balancing": balancing,
    "isolation": isolation,
    "concurrency": concurrency,
    "priority": order_of_service,
}

main = publisher((direct.images, lanes.slow, lanes.quick, WORK), needs_results=True)(
    click.argument("parts", metavar="[PART]...", nargs=-1, type=click.Choice(list(PARTS)))(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.queues")
