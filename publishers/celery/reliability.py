"""A killed worker, retries that wait in queues, and poison that is parked: python -m publishers.celery.reliability

The lesson starts two workers of its own, kills one, and goes on with the other. See docs/lessons/reliability.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from celery.result import AsyncResult

from exchanges.reliability import DELAYS, QUEUES, parked, work
from publishers.support import results
from publishers.support.control import ask
from publishers.support.dead_letters import DeadLetter, look, put_back
from publishers.support.own_workers import Crew, crew_of
from publishers.support.program import publisher
from publishers.support.stage import Stage
from waybill.cli.running import run
from waybill.testing.receipts import Receipt
from worker import reliability as tasks
from worker.app import app

# Seconds of Celery's own countdown: long enough to publish something meanwhile.
COUNTDOWN = 0.6


def lesson(stage: Stage) -> None:
    """Kill a worker in the middle of a task, let tasks fail and try again, and park the one that never succeeds."""
    if not stage.speaks_amqp():
        return
    with crew_of(stage, work) as crew:
        kill_a_worker(stage, crew)
        kill_a_child(stage, crew)
        back_off(stage, crew)
        count_down(stage, crew)
        park(stage, crew)


def kill_a_worker(stage: Stage, crew: Crew) -> None:
    """Acknowledged late, the message is still the broker's when the worker dies, and goes to another one."""
    task_id = crew.publish(tasks.survive)
    victim = crew.runs(task_id, 1)[0].worker
    crew.workers.kill(victim)
    other = crew.runs(task_id, 2)[1].worker
    crew.watch.discover_workers([other], crew.workers.check_alive)
    received = receipts(crew, task_id)
    stage.tell(
        f"late ack, and {victim} is killed",
        shown(received),
        **facts(task_id, received),
    )


def kill_a_child(stage: Stage, crew: Crew) -> None:
    """The process that runs the task dies and its worker doesn't: then late acks alone don't help."""
    for task, what in (
        (tasks.rejected_when_lost, "child killed, reject_on_worker_lost"),
        (tasks.acknowledged_when_lost, "child killed, without it"),
    ):
        task_id = crew.publish(task)
        crew.wait(partial(is_over, crew, task_id), f"the end of the task {task_id}")
        returned = outcome(task_id)
        received = receipts(crew, task_id)
        stage.tell(what, f"{shown(received)} · {returned}", **facts(task_id, received))


def back_off(stage: Stage, crew: Crew) -> None:
    """Each retry waits in a queue, for twice as long as the one before, and the worker is free meanwhile."""
    task_id, behind = crew.publish(tasks.back_off), crew.publish(tasks.come_behind)
    runs = crew.runs(task_id, 1 + len(DELAYS))
    waited = [1000 * (later.time - earlier.time) for earlier, later in pairwise(runs)]
    through = [one.deaths[0] for one in runs[1:]]
    waits = ", ".join(f"{queue} ({found:.0f} ms)" for (queue, _), found in zip(through, waited, strict=True))
    stage.tell(
        "fail, and back off by delay queues",
        f"{outcome(task_id)}, after {waits}",
        waited=waited,
        through=through,
        **facts(task_id, receipts(crew, task_id)),
    )
    stage.tell("  what comes behind it", order(crew, behind, task_id), task_id=behind)


def count_down(stage: Stage, crew: Crew) -> None:
    """Celery's own countdown: the worker takes the message at once and holds it, and what comes behind waits.

    On RabbitMQ before 4.3, which lets a worker raise its prefetch for what it holds, the latter runs.
    """
    task_id = crew.publish(tasks.count_down, COUNTDOWN)
    crew.wait(lambda: len(crew.watch.received_so_far(task_id)) > 1, f"the retry of the task {task_id}")
    behind = crew.publish(tasks.come_behind)
    _, second = crew.runs(task_id, 2)
    received = receipts(crew, task_id)
    held = second.time - received[-1].time
    stage.tell(
        "fail, and try again by a countdown",
        f"{second.worker} holds it for {1000 * held:.0f} ms · {outcome(task_id)}",
        held=1000 * held,
        **facts(task_id, received),
    )
    stage.tell("  what comes behind it", order(crew, behind, task_id), task_id=behind)


def park(stage: Stage, crew: Crew) -> None:
    """A message that never succeeds is rejected in the end, parked, looked at, and put back by hand."""
    task_id = crew.publish(tasks.back_off, True)
    crew.runs(task_id, 1 + len(DELAYS))
    crew.wait(lambda: letters(crew, task_id), f"the dead letter of the task {task_id}")
    letter, *_ = letters(crew, task_id)
    died = f"{letter.reason} in {letter.queue}"
    stage.tell("poison", f"{parked.name}: {died}", **letter.summary)
    is_there = len(letters(crew, task_id)) == 1
    stage.tell("  looked at", f"{'still' if is_there else 'not'} in {parked.name}")
    put_back(crew.watch.connection, [task_id])
    crew.runs(task_id, 2 + len(DELAYS))
    received = receipts(crew, task_id)
    stage.tell(
        "  put back",
        f"{shown(received[-1:])} · {outcome(task_id)}",
        **facts(task_id, received),
    )


def letters(crew: Crew, task_id: str) -> list[DeadLetter]:
    """What is parked of this task."""
    return [letter for letter in look(crew.watch.connection) if letter.id == task_id]


def order(crew: Crew, behind: str, retried: str) -> str:
    """Whether one task ran before the second run of another, as the worker that ran both tells it."""
    (other,), (_, second, *_) = crew.runs(behind, 1), crew.runs(retried, 2)
    return "runs before the retry" if other.time < second.time else "runs after the retry"


def is_over(crew: Crew, task_id: str) -> bool:
    """Whether the task has a result, asking the worker to look whether its process has died."""
    if AsyncResult(task_id, app=app).ready():
        return True
    ask(tasks.look_after_children.__name__, list(crew.watch.consumers_by_worker))
    return False


def outcome(task_id: str) -> object:
    """What the task returned, or the name of what it raised."""
    value = results.outcome(AsyncResult(task_id, app=app), propagate=False)
    return type(value).__name__ if isinstance(value, Exception) else value


def receipts(crew: Crew, task_id: str) -> Sequence[Receipt]:
    """The task's receipts, once it is proven that there are no more."""
    return crew.watch.receipts_of([task_id])[task_id]


def shown(received: Sequence[Receipt]) -> str:
    """`fragile1 (fragile); fragile2 (fragile), redelivered`."""
    return "; ".join(f"{one.place}{', redelivered' * one.redelivered}" for one in received)


def facts(task_id: str, received: Sequence[Receipt]) -> dict[str, Any]:
    """What `--json` says of a task."""
    listed = [{"worker": one.worker, "queue": one.queue, "redelivered": one.redelivered} for one in received]
    return {"task_id": task_id, "received": listed}


main = publisher(QUEUES)(lesson)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.reliability")
