"""Tasks made of tasks, and where each part of them ran: python -m publishers.celery.canvas"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from celery import chain, chord, group
from celery.canvas import Signature
from celery.result import GroupResult, ResultBase
from celery.signals import before_task_publish

from exchanges import default, lanes
from publishers.support.program import publisher
from publishers.support.results import outcome, require_chords
from publishers.support.stage import Stage
from waybill.cli.running import run
from waybill.testing.receipts import Receipt
from worker import canvas, tasks
from worker.app import app

SLOW, QUICK, CLEANUP = (queue.name for queue in (lanes.slow, lanes.quick, lanes.cleanup))

# The task, with Celery's own name, that waits for a chord's header where the result backend can't count it.
UNLOCK = "celery.chord_unlock"


@dataclass(frozen=True)
class Part:
    """One canvas: what it is for a person, and what came of it.

    Attributes:
        task_ids: of its tasks, in the order of the canvas.
    """

    what: str
    returned: object
    task_ids: Sequence[str]


def lesson(stage: Stage) -> None:
    """Make tasks of tasks: signatures, group, chain, chord, starmap, map, chunks and error callbacks.

    For each its result and, by receipts, the workers and the queue that every part of it ran on.
    """
    require_chords(app)
    with publications(UNLOCK) as unlocks:
        parts = [*single(), *packs(), published_errback(), called_errback(), *several()]
    received = stage.watch.receipts_of([*unlocks, *(task_id for part in parts for task_id in part.task_ids)])
    for part in parts:
        tell_part(stage, part, received)
    tell_unlock(stage, unlocks, received)


def ran(what: str, signature: Signature) -> Part:
    """Publish a canvas and wait for its result."""
    result = signature.apply_async()
    return Part(what, outcome(result), ids_of(result))


def ids_of(result: ResultBase) -> list[str]:
    """The ids of the tasks behind a result: first those that came before it, then its own."""
    own = [one.id for one in result.results] if isinstance(result, GroupResult) else [result.id]
    return [*(ids_of(result.parent) if result.parent else []), *own]


def sums() -> list[Signature]:
    """Ten sums, each routed to the quick lane."""
    return [tasks.add.s(i, i).set(queue=QUICK) for i in range(10)]


COUPLES = [(i, i) for i in range(10)]


def single() -> Iterator[Part]:
    """One task by two kinds of signature; for the second the task need not be importable here."""
    yield ran("signature by task: add.s(2, 2)", tasks.add.s(2, 2))
    yield ran("by name: signature('worker.tasks.add')", app.signature("worker.tasks.add", (2, 2)))


def several() -> Iterator[Part]:
    """Side by side; one after the other, the second in another queue; side by side and one that gets all results."""
    yield ran("group: ten sums i + i", group(sums()))
    links = chain(tasks.add.s(2, 2), tasks.add.s(4).set(queue=SLOW), tasks.add.s(8))
    yield ran("chain: 2 + 2, then + 4, then + 8", links)
    yield ran("chord: the total of the ten sums", chord(sums(), tasks.total.s()))


def packs() -> Iterator[Part]:
    """Many calls in few messages: one worker makes all calls of a message, one after the other."""
    yield ran("starmap: ten sums in one message", tasks.add.starmap(COUPLES).set(queue=SLOW))
    yield ran("map: two totals in one message", tasks.total.map([[1, 2], [3, 4]]).set(queue=SLOW))
    yield ran("chunks: ten sums by fives", tasks.add.chunks(COUPLES, 5).group().set(queue=SLOW))


def published_errback() -> Part:
    """An error callback with one argument: a task like any other, with a queue of its own."""
    told = canvas.tell_failure.s().set(queue=CLEANUP)
    heard = told.freeze()
    failing = tasks.divide.s(1, 0).on_error(told).apply_async()
    outcome(failing, propagate=False)
    return Part("link_error, errback(id): published", outcome(heard), (failing.id, heard.id))


def called_errback() -> Part:
    """An error callback with three arguments: called where the task failed, and nobody receives its id."""
    told = canvas.tell_failure_here.s().set(queue=CLEANUP)
    heard = told.freeze()
    told.kwargs["note"] = heard.id
    failing = tasks.divide.s(1, 0).on_error(told).apply_async()
    outcome(failing, propagate=False)
    return Part("link_error, errback(request, ...): called", outcome(heard), (failing.id, heard.id))


@contextmanager
def publications(task: str | None = None) -> Iterator[list[str]]:
    """The ids of the tasks, or of those with this name, that this program publishes within the block."""
    found: list[str] = []

    def note(headers: Mapping[str, Any], **_: object) -> None:
        found.append(headers["id"])

    before_task_publish.connect(note, sender=task)
    try:
        yield found
    finally:
        before_task_publish.disconnect(note, sender=task)


def tell_part(stage: Stage, part: Part, received: Mapping[str, Sequence[Receipt]]) -> None:
    """One line: what was returned, and where each task ran."""
    found = [receipt for task_id in part.task_ids for receipt in received[task_id]]
    stage.tell(
        part.what,
        f"{part.returned} · {where(found)}",
        returned=part.returned,
        ids=part.task_ids,
        tasks=facts(found),
    )


def tell_unlock(stage: Stage, unlocks: Sequence[str], received: Mapping[str, Sequence[Receipt]]) -> None:
    """Where it was polled for the end of the header; with a backend that counts, nobody has to."""
    polls = [receipt for task_id in unlocks for receipt in received[task_id]]
    happened = f"polled after a second · {where(polls)}" if polls else "not needed: the backend counts"
    stage.tell("the chord's wait: chord_unlock", happened, tasks=facts(polls))


def facts(receipts: Sequence[Receipt]) -> list[dict[str, str]]:
    """What `--json` says of each task."""
    return [{"id": one.task_id, "task": one.task, "worker": one.worker, "queue": one.queue} for one in receipts]


def where(receipts: Sequence[Receipt]) -> str:
    """The workers, those of one run together: `both, quick (quick), default (default)`."""
    return ", ".join(
        f"{', '.join(sorted({one.worker_name for one in run_}))} ({queue})"
        for queue, run_ in groupby(receipts, lambda one: one.queue)
    )


main = publisher((*default.QUEUES, lanes.slow, lanes.quick, lanes.cleanup), needs_results=True)(lesson)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.canvas")
