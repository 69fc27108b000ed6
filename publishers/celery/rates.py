"""Rate limits, measured: python -m publishers.celery.rates 20/s

A limit is kept by each worker for itself, for all its processes together. A task that is held back keeps its place in
the prefetch: others wait behind it for a worker that has nothing to do.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import click
from celery import Celery
from celery.utils.time import rate as in_seconds
from kombu import Queue

from exchanges import direct, lanes
from publishers.support.charts import bar
from publishers.support.control import ask, paused_consumers, prefetching
from publishers.support.program import publisher
from publishers.support.runs import Run, Sent, facts, finished, send, wait_for
from publishers.support.stage import Stage
from waybill.celery_app.names import worker_name
from waybill.cli.running import run
from waybill.errors import FleetError
from worker import metered, tasks
from worker.metered import send_text

# How many tasks are measured, the first of which starts at once.
TEXTS = 8
# The limit that is set at run time, and the lowest that can be, in tasks a second.
AT_RUN_TIME, LOWEST = "20/s", 2.0
# How many that are held back stand before their neighbour, what that returns, and with which prefetch.
HELD, NEIGHBOUR = 5, "neighbour"
PREFETCHES = (1, 3, 10)
# In an application of its own, only to ask Celery.
DEFAULT = "5/s"

RATE = re.compile(r"\d+(?:\.\d+)?/[smh]")


def readable(_context: click.Context, _argument: click.Parameter, value: str) -> str:
    """The rate as it was given, for Celery to read.

    Raises:
        click.BadParameter: it isn't written as Celery's documentation has it, or is so low that nobody would wait.
    """
    if not RATE.fullmatch(value):
        raise click.BadParameter(f"rate {value!r}: expected N/s, N/m or N/h, such as {AT_RUN_TIME}")
    if in_seconds(value) < LOWEST:
        raise click.BadParameter(f"rate {value!r}: expected at least {LOWEST:g}/s, so that {TEXTS} tasks end soon")
    return value


def lesson(stage: Stage, rate: str = AT_RUN_TIME) -> None:
    """Measure one task's rate limit: by one worker, by two, by one with two processes, and with RATE set at run time.

    Then how long a task without a limit waits behind tasks that are held back.
    """
    one, two, several = require_workers(stage)
    tell_settings(stage)
    declared = [
        texts(stage, direct.images, [one]),
        texts(stage, direct.images, [one, two]),
        texts(stage, lanes.quick, [several]),
    ]
    with limited([one], rate):
        changed = texts(stage, direct.images, [one])
    # Beyond AMQP Kombu counts the prefetch, and a worker that looks away may still take the message it waits for.
    prefetches = PREFETCHES if stage.speaks_amqp() else ()
    single, double, processes, again, *behind = finished(
        stage, *declared, changed, *(texts_and_neighbour(stage, one, prefetch) for prefetch in prefetches)
    )
    limit, most = in_seconds(metered.RATE), max(2 * in_seconds(metered.RATE), in_seconds(rate))
    tell_rate(stage, f"declared {metered.RATE} · {worker_name(one)}", single, limit, most)
    tell_rate(stage, f"declared {metered.RATE} · {worker_name(one)} and {worker_name(two)}", double, 2 * limit, most)
    what = f"declared {metered.RATE} · {worker_name(several)}, processes: {processes_of([several])[several]}"
    tell_rate(stage, what, processes, limit, most)
    tell_rate(stage, f"at run time {rate} · {worker_name(one)}", again, in_seconds(rate), most)
    for prefetch, runs in zip(prefetches, behind, strict=True):
        tell_neighbour(stage, prefetch, runs)


def require_workers(stage: Stage) -> tuple[str, str, str]:
    """Two workers of one queue, and one of another queue.

    Raises:
        FleetError: there are fewer, before anything is published.
    """
    images, quick = stage.workers_of(direct.images), stage.workers_of(lanes.quick)
    if len(images) < 2 or not quick:
        raise FleetError(
            "this lesson needs two workers of the queue 'images' and one of the queue 'quick'; found: "
            f"{', '.join(images) or 'none'} and {', '.join(quick) or 'none'}"
        )
    processes = processes_of(quick)
    return images[0], images[1], max(processes, key=lambda worker: processes[worker])


def processes_of(workers: Sequence[str]) -> dict[str, int]:
    """Worker -> how many tasks it can run at once."""
    return {worker: stats["pool"]["max-concurrency"] for worker, stats in ask("stats", workers).items()}


def tell_settings(stage: Stage) -> None:
    """Which limit a task has, asked of Celery: its own one before the application's."""
    asked = Celery(set_as_current=False, changes={"task_default_rate_limit": DEFAULT})
    for own in (None, metered.RATE, 0):
        task = asked.task(name=f"limit.{own}", rate_limit=own, shared=False)(metered.send_text.run)
        asked.finalize()
        what = f"default {DEFAULT} · {'no rate_limit' if own is None else f'rate_limit={own!r}'}"
        stage.tell(what, str(task.rate_limit or "no limit"))


def texts(stage: Stage, queue: Queue, workers: Sequence[str]) -> list[Sent]:
    """Limited tasks, published at once to these of the queue's workers, and done."""
    with only(stage, queue, workers):
        sent = [send(send_text, queue=queue.name) for _ in range(TEXTS)]
        wait_for(sent)
    return sent


def only(stage: Stage, queue: Queue, workers: Sequence[str]) -> AbstractContextManager[None]:
    """The other workers of the queue look away for the length of the block."""
    return paused_consumers(stage, queue, [one for one in stage.workers_of(queue) if one not in workers])


@contextmanager
def limited(workers: Sequence[str], rate: str) -> Iterator[None]:
    """Another limit for these workers within the block; after it the declared one."""
    ask("rate_limit", workers, task_name=send_text.name, rate_limit=rate)
    try:
        yield
    finally:
        ask("rate_limit", workers, task_name=send_text.name, rate_limit=metered.RATE)


def per_second(runs: Iterable[Run]) -> float:
    """Tasks a second of all workers together: of each those after its first, from the publication to its last end."""
    by_worker = defaultdict(list)
    for one in runs:
        by_worker[one.worker].append(one)
    return sum(
        (len(own) - 1) / (max(one.done for one in own) - min(one.published for one in own))
        for own in by_worker.values()
    )


def tell_rate(stage: Stage, what: str, runs: Sequence[Run], limit: float, most: float) -> None:
    """A bar of tasks a second, beside the limit."""
    rate = per_second(runs)
    stage.tell(what, f"{bar(rate, most)} {rate:.1f}/s", per_second=round(rate, 3), limit=limit, runs=facts(runs))


def texts_and_neighbour(stage: Stage, worker: str, prefetch: int) -> list[Sent]:
    """Limited tasks and, behind them in the queue, one without a limit; all done by this worker."""
    with only(stage, direct.images, [worker]), prefetching(stage, direct.images, [worker], prefetch):
        with paused_consumers(stage, direct.images, [worker]):
            held = [send(send_text, queue=direct.images.name) for _ in range(HELD)]
            neighbour = send(tasks.work, NEIGHBOUR, queue=direct.images.name)
        wait_for([*held, neighbour])
    return [*held, neighbour]


def tell_neighbour(stage: Stage, prefetch: int, runs: Sequence[Run]) -> None:
    """How long the task without a limit waited, though the worker had nothing to do."""
    place = [one.returned for one in runs].index(NEIGHBOUR)
    waited = runs[place].done - runs[0].done
    what = f"behind {HELD} held back · prefetch {prefetch}"
    shown = f"{bar(waited, HELD / in_seconds(metered.RATE))} {waited:.2f} s after the first".lstrip()
    stage.tell(what, shown, seconds=round(waited, 4), before=place, runs=facts(runs))


main = publisher((direct.images, lanes.quick), needs_results=True)(
    click.argument("rate", metavar="[RATE]", callback=readable, default=AT_RUN_TIME)(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.rates")
