"""Remote control for the lessons: every worker that is told something has done it when the call returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kombu import Queue

from publishers.stage import Stage
from waybill.errors import FleetError
from worker.app import app

# Seconds in which the workers have to answer; with all answers here nothing is waited for.
ANSWER_TIMEOUT = 10.0


def ask(stage: Stage, command: str, workers: Sequence[str], **arguments: Any) -> dict[str, Any]:
    """Worker -> its answer to a remote-control command.

    Raises:
        FleetError: somebody did not answer in time, or refused.
    """
    if not workers:
        return {}
    heard = app.control.broadcast(
        command,
        arguments=arguments,
        destination=list(workers),
        connection=stage.watch.connection,
        reply=True,
        limit=len(workers),
        timeout=ANSWER_TIMEOUT,
    )
    answers = {worker: answer for one in heard or () for worker, answer in one.items()}
    if missing := sorted(set(workers) - set(answers)):
        raise FleetError(f"no answer to {command!r} within {ANSWER_TIMEOUT:.0f} s from {', '.join(missing)}")
    for worker, answer in answers.items():
        if isinstance(answer, dict) and "error" in answer:
            raise FleetError(f"{worker} refused {command!r}: {answer['error']}")
    return answers


@contextmanager
def looking_away(stage: Stage, queue: Queue, workers: Sequence[str] | None = None) -> Iterator[None]:
    """These workers, or all of the queue's, stop consuming it for the length of the block.

    An idle worker takes each message as it comes: without this no queue fills, and no priority can be seen. `settle`
    comes after the block: whoever looks away answers no marker.
    """
    away = stage.workers_of(queue) if workers is None else workers
    _tell(stage, "cancel_consumer", queue, away)
    try:
        yield
    finally:
        _tell(stage, "add_consumer", queue, away)


@contextmanager
def prefetching(stage: Stage, queue: Queue, workers: Sequence[str], count: int) -> Iterator[None]:
    """These workers prefetch so many messages of the queue for the length of the block, and as many as before after it.

    A prefetch counts for the consumers that are added after it.
    """
    with looking_away(stage, queue, workers):
        before = {worker: answer["before"] for worker, answer in ask(stage, "prefetch", workers, count=count).items()}
    try:
        yield
    finally:
        with looking_away(stage, queue, workers):
            for worker, own in before.items():
                ask(stage, "prefetch", [worker], count=own)


def _tell(stage: Stage, command: str, queue: Queue, workers: Sequence[str]) -> None:
    ask(stage, command, workers, queue=queue.name)
    # The worker answers before it does it, in the next turn of its event loop; the answer to this comes after that.
    ask(stage, "ping", workers)
