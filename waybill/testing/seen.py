"""What was sent and what became of it, since a moment: the views of a watch that a test compares with.

Each view but `sent` and `unroutable` is a mapping from a task's name to queues.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from waybill.celery_app.names import MARKER
from waybill.celery_app.publication import Publication
from waybill.testing.delivery import ByName, Queues
from waybill.testing.receipts import Receipt

# How a worker's part in a task ends, by the events of Celery's that say so.
ENDS = frozenset({"succeeded", "failed", "rejected", "retried", "revoked"})


@dataclass(frozen=True, slots=True)
class End:
    """How a worker ended a message, where that was seen.

    Attributes:
        happened: Celery's names for it: `rejected`, `failed`, `retried`, `succeeded`, `revoked`.
    """

    task: str
    queue: str
    happened: frozenset[str]


class Streams:
    """The numbered receipts of each worker: which are here already, and which were lost on their way.

    Attributes:
        lost: worker -> how many of its receipts never came.
    """

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()
        self._last: dict[str, int] = {}

    def is_new(self, event: Mapping[str, Any]) -> bool:
        """Whether this event is here for the first time; note what is missing before it."""
        stream, number = event.get("stream"), event.get("number")
        if stream is None or number is None:  # a receiver within this process
            return True
        last = self._last.get(stream, number - 1)
        if number <= last:
            return False
        self._last[stream] = number
        if number > last + 1:
            self.lost[event["hostname"]] += number - last - 1
        return True


@dataclass(slots=True)
class Seen:
    """What a watch has seen."""

    sent: list[Publication] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    # (task id, worker) -> how its receptions ended, in that order; and how many were begun, without those with an ETA.
    events: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    begun: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Worker -> its process: what a process that was killed has begun never ends.
    pids: dict[str, int] = field(default_factory=dict)

    def clear(self) -> None:
        """Nothing has been seen."""
        self.sent.clear()
        self.receipts.clear()
        self.ends.clear()
        self.events.clear()
        self.begun.clear()

    def meet(self, event: Mapping[str, Any]) -> None:
        """Note which process a worker is, by any event of its."""
        worker, pid = event.get("hostname", ""), event.get("pid", 0)
        if self.pids.setdefault(worker, pid) != pid:
            self.pids[worker] = pid
            for at in [one for one in self.begun if one[1] == worker]:
                self.begun[at] = len(self.events[at])

    def note(self, event: Mapping[str, Any]) -> None:
        """Note an event of Celery's own, of a worker that runs its tasks."""
        self.meet(event)
        at = (event.get("uuid", ""), event.get("hostname", ""))
        how = event["type"].removeprefix("task-")
        # The end of a marker is nobody's to wait for: each round would call for another one.
        if how == "received" and not event.get("eta") and event.get("name") != MARKER:
            self.begun[at] += 1
        elif how == "rejected" and self.events[at][-1:] == ["failed"]:
            self.events[at][-1] = "failed and rejected"  # Celery 5.7 says both of one end
        elif how in ENDS:
            self.events[at].append(how)

    @property
    def unfinished(self) -> list[str]:
        """The workers that run a task still, once for each."""
        return [worker for (task, worker), count in self.begun.items() if len(self.events[task, worker]) < count]

    def _ends(self) -> Iterator[End]:
        yield from self.ends
        for (task_id, worker), events in self.events.items():
            receipts = [one for one in self.receipts if (one.task_id, one.worker) == (task_id, worker)]
            for receipt, how in zip(receipts, events, strict=False):
                yield End(receipt.task, receipt.queue, frozenset(how.split(" and ")))

    @property
    def received(self) -> ByName:
        return self._mapped((one.task, one.queue) for one in self.receipts if not one.is_discarded)

    @property
    def discarded(self) -> ByName:
        found = (one for one in self.receipts if one.is_discarded and one.reason != "expired")
        return self._mapped((one.task, one.queue) for one in found)

    @property
    def dead_lettered(self) -> ByName:
        return self._mapped((one.task, one.queue) for one in self.receipts if one.death)

    @property
    def expired(self) -> ByName:
        in_a_worker = ((one.task, one.queue) for one in self.receipts if one.reason == "expired")
        died = (one for one in self.receipts if one.death)
        in_a_queue = ((one.task, one.death[1]) for one in died if one.death and one.death[0] == "expired")
        return self._mapped([*in_a_worker, *in_a_queue])

    def ended(self, how: str) -> ByName:
        """The tasks that ended so, and the queues from which they had come."""
        return self._mapped((one.task, one.queue) for one in self._ends() if how in one.happened)

    def _mapped(self, found: Iterable[tuple[str, str]]) -> ByName:
        queues: dict[str, set[str]] = defaultdict(set)
        for task, queue in found:
            queues[task].add(queue)
        named = {task: Queues(names, self._of(task), self.receipts) for task, names in queues.items() if task != MARKER}
        return ByName(named, "task", self.sent, self.receipts)

    def _of(self, task: str) -> list[Publication]:
        return [one for one in self.sent if one.task == task]


class Views(ABC):
    """The views of a watch: what has been seen since `forget`, or since it began. Each of them proves first."""

    sent: tuple[Publication, ...]

    @abstractmethod
    def _proven(self) -> Seen:
        """What has been seen, when nothing more is on its way."""

    @abstractmethod
    def _asked(self, sent: Publication) -> Publication:
        """A publication, with the broker's answer whether a queue took it."""

    @property
    def received(self) -> ByName:
        """Task -> the queues from which a worker received it."""
        return self._proven().received

    @property
    def discarded(self) -> ByName:
        """Task -> the queues from which a worker threw it away: unknown, revoked or unreadable."""
        return self._proven().discarded

    @property
    def expired(self) -> ByName:
        """Task -> the queues in which it expired, or from which a worker threw it away as expired."""
        return self._proven().expired

    @property
    def dead_lettered(self) -> ByName:
        """Task -> the queues from which a worker received it as a dead letter."""
        return self._proven().dead_lettered

    @property
    def rejected(self) -> ByName:
        """Task -> the queues from which it came when a worker rejected its message."""
        return self._proven().ended("rejected")

    @property
    def failed(self) -> ByName:
        """Task -> the queues from which it came when it failed."""
        return self._proven().ended("failed")

    @property
    def retried(self) -> ByName:
        """Task -> the queues from which it came when it was retried."""
        return self._proven().ended("retried")

    @property
    def unroutable(self) -> frozenset[str]:
        """The tasks of which a message reached no queue."""
        received = {one.task_id for one in self._proven().receipts}
        lost = [one for one in self.sent if one.task_id not in received]
        return frozenset(one.task for one in lost if self._asked(one).is_returned)
