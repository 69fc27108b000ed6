"""The queues in which a message ends: who consumes them, and what becomes of it where nobody takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from waybill.celery_app import installed
from waybill.celery_app.fleet.workers import Fleet
from waybill.routing import Router
from waybill.routing.dead_letters import DeadLettering, Reason
from waybill.routing.walk import Trace
from waybill.topology import Queue


@dataclass(frozen=True, slots=True)
class Arrival:
    """A queue that the message reaches.

    Attributes:
        consumers: the workers that consume it; None when that isn't known, without a fleet or with one that couldn't
            be read as a whole.
        unconsumed: where the message goes when nobody takes it: it expires, is rejected, or stays.
        again: where a dead letter goes when it leaves a dead-letter queue, and so on.
        resting: dead-letter queue -> the workers that consume it; None where that isn't known.
    """

    queue: Queue
    level: int
    consumers: tuple[str, ...] | None
    unconsumed: tuple[DeadLettering, ...]
    notes: tuple[str, ...]
    again: tuple[DeadLettering, ...] = ()
    resting: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "queue": self.queue.name,
            "type": self.queue.type,
            "priority": self.level,
            "workers": None if self.consumers is None else list(self.consumers),
            "dead_letters": [letter.to_json() for letter in self.unconsumed],
            "second_deaths": [letter.to_json() for letter in self.again],
            "dead_letter_queues": {
                name: None if workers is None else list(workers) for name, workers in self.resting.items()
            },
            "notes": list(self.notes),
        }


def is_acknowledged_early(app: Celery, task: str) -> bool:
    """Whether a worker acknowledges the task before it runs; nothing is said of one that isn't registered here."""
    known = app.tasks.get(task)
    if known is None:
        return False
    return not (app.conf.task_acks_late if known.acks_late is None else known.acks_late)


def arrival(
    router: Router, queue: Queue, existing: Router, trace: Trace, fleet: Fleet | None, is_early: bool
) -> Arrival:
    """What becomes of the message in a queue.

    Args:
        existing: what the publication and the workers declare; that of which nobody consumes a queue isn't there.
        is_early: the task is acknowledged before it runs, so that there is nothing left to reject.
    """
    if queue.name not in existing.queues:
        return Arrival(queue, queue.level_of(trace.message.priority), (), (), (_UNMADE,))
    consumers = _consumers(fleet, queue.name)
    reasons = _reasons(queue, is_early=is_early, expires=trace.message.expiration is not None)
    letters = tuple(existing.dead_letters(queue.name, trace.message, reason) for reason in reasons)
    lost = {one.exchange for one in letters if one.exchange in router.exchanges} - existing.exchanges.keys()
    early = (_EARLY,) if is_early and queue.dead_letter_exchange is not None else ()
    notes = (*_notes(queue, trace), *_perhaps(fleet, consumers), *early, *(_NOT_MADE.format(name) for name in lost))
    again = tuple(_again(existing, letters, is_early))
    reached = dict.fromkeys(name for letter in (*letters, *again) for one in _steps(letter) for name in one.queues)
    resting = {name: _consumers(fleet, name) for name in reached}
    return Arrival(queue, queue.level_of(trace.message.priority), consumers, letters, notes, again, resting)


def _consumers(fleet: Fleet | None, queue: str) -> tuple[str, ...] | None:
    """The workers of a queue; None where there may be one that isn't known."""
    found = () if fleet is None else fleet.consumers(queue)
    return found if found or (fleet is not None and fleet.is_complete) else None


def _reasons(queue: Queue, *, is_early: bool, expires: bool = False) -> list[Reason]:
    """Why a message may leave a queue without being acknowledged."""
    reasons: list[Reason] = [] if is_early else ["rejected"]
    if queue.setting("message-ttl") is not None or expires:
        reasons.append("expired")
    if queue.setting("max-length") is not None or queue.setting("max-length-bytes") is not None:
        reasons.append("maxlen")
    if queue.type == "quorum":
        reasons.append("delivery_limit")
    return reasons


def _steps(letter: DeadLettering) -> Iterator[DeadLettering]:
    """A dead-lettering, and those that follow by themselves."""
    yield letter
    for onward in letter.onward:
        yield from _steps(onward)


def _again(router: Router, letters: Iterable[DeadLettering], is_early: bool) -> Iterator[DeadLettering]:
    """The second deaths of dead letters, and so on: each way out of a queue once."""
    waiting, seen = [one for letter in letters for one in _steps(letter)], set[tuple[str, Reason]]()
    while waiting:
        letter = waiting.pop(0)
        for name in letter.queues:
            queue = router.queues[name]
            if queue.dead_letter_exchange is None or letter.message is None:
                continue
            for reason in _reasons(queue, is_early=is_early):
                if reason == "expired" or (name, reason) in seen:  # that follows by itself
                    continue
                seen.add((name, reason))
                found = router.dead_letters(name, letter.message, reason, letter.deaths, letter.routing_keys)
                yield found
                waiting += _steps(found)


def _perhaps(fleet: Fleet | None, consumers: tuple[str, ...] | None) -> Iterator[str]:
    if fleet is not None and consumers is None:
        unread = ", ".join(map(str, fleet.unread))
        yield f"no worker that could be read consumes it; perhaps one of these does: {unread}"


_EARLY = "acknowledged before it runs (acks_late is off): neither `Reject` nor a failure makes it a dead letter"
_NOT_MADE = (
    "nobody declares `{}`: it stands in the application, and no worker of the fleet consumes a queue of it; "
    "`waybill declare` declares it"
)
_UNMADE = (
    "no worker of the fleet declares it, since none consumes it, and neither does this publication: unless somebody "
    "else has (`waybill declare`), the message is dropped"
)


def _notes(queue: Queue, trace: Trace) -> list[str]:
    return [*_unconsumable(queue), *_priority_notes(queue, trace)]


def _unconsumable(queue: Queue) -> Iterator[str]:
    if queue.type == "quorum" and not installed.DETECTS_QUORUM_QUEUES:
        yield (
            f"a worker of Celery {installed.CELERY_VERSION} can't consume a quorum queue on RabbitMQ before 4.3 "
            "(540 does not support global qos); one of 5.5 and later can"
        )


def _priority_notes(queue: Queue, trace: Trace) -> list[str]:
    priority = trace.message.priority
    level = queue.level_of(priority)
    if not priority or priority == level:
        return []
    if queue.type == "classic" and queue.max_priority is None:
        return [f"priority {priority} has no effect: the queue has no x-max-priority"]
    return [f"priority {priority} counts as {level}, the queue's highest"]
