"""Remote control for the lessons: every worker that is told something has done it when the call returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from kombu import Queue

from publishers.support.stage import Stage
from waybill.errors import FleetError
from worker.app import app

# Seconds in which the workers have to answer; with all answers here nothing is waited for.
ANSWER_TIMEOUT = 60.0


class AllAnswered(Exception):
    """Every worker that was asked has answered: nothing more is waited for."""


def ask(command: str, workers: Sequence[str], **arguments: Any) -> dict[str, Any]:
    """Worker -> its answer to a remote-control command.

    Raises:
        FleetError: somebody did not answer in time, or refused.
    """
    if not workers:
        return {}
    answers: dict[str, Any] = {}

    def hear(one: Mapping[str, Any]) -> None:
        answers.update(one)
        if answers.keys() >= set(workers):
            raise AllAnswered

    # Not with Kombu's `limit`: whatever comes in meanwhile counts, such as a late answer to an earlier question.
    with suppress(AllAnswered):
        app.control.broadcast(
            command,
            arguments=arguments,
            destination=list(workers),
            reply=True,
            callback=hear,
            timeout=ANSWER_TIMEOUT,
        )
    if missing := sorted(set(workers) - set(answers)):
        raise FleetError(f"no answer to {command!r} within {ANSWER_TIMEOUT:.0f} s from {', '.join(missing)}")
    for worker, answer in answers.items():
        if isinstance(answer, dict) and "error" in answer:
            raise FleetError(f"{worker} refused {command!r}: {answer['error']}")
    return answers


@contextmanager
def paused_consumers(stage: Stage, queue: Queue, workers: Sequence[str] | None = None) -> Iterator[None]:
    """These workers, or all of the queue's, stop consuming it for the length of the block.

    An idle worker takes each message as it comes: without this no queue fills, and no priority can be seen. `settle`
    comes after the block: whoever looks away answers no marker.
    """
    away = stage.workers_of(queue) if workers is None else workers
    consume(queue, away, on=False)
    try:
        yield
    finally:
        consume(queue, away, on=True)


@contextmanager
def prefetching(stage: Stage, queue: Queue, workers: Sequence[str], count: int) -> Iterator[None]:
    """These workers prefetch so many messages of the queue within the block, and after it as many as before.

    A prefetch counts for the consumers that are added after it.
    """
    with paused_consumers(stage, queue, workers):
        before = {worker: answer["before"] for worker, answer in ask("prefetch", workers, count=count).items()}
    try:
        yield
    finally:
        with paused_consumers(stage, queue, workers):
            for worker, own in before.items():
                ask("prefetch", [worker], count=own)


def consume(queue: Queue, workers: Sequence[str], on: bool) -> None:
    """Have these workers consume the queue, or stop it, and return when they do.

    A worker answers before it has done it, and what it is told next may be done first: asked again, it tells.
    """
    ask("add_consumer" if on else "cancel_consumer", workers, queue=queue.name)
    deadline = monotonic() + ANSWER_TIMEOUT
    while late := [one for one, found in _consumed(workers).items() if (queue.name in found) is not on]:
        if monotonic() > deadline:
            raise FleetError(
                f"{', '.join(late)} did not {'start' if on else 'stop'} consuming {queue.name!r} "
                f"within {ANSWER_TIMEOUT:.0f} s"
            )


def _consumed(workers: Sequence[str]) -> dict[str, set[str]]:
    """Worker -> the names of the queues that it consumes now."""
    answers = ask("active_queues", workers)
    return {worker: {queue["name"] for queue in queues or ()} for worker, queues in answers.items()}
