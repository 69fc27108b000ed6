"""One round of markers, as plain values; watch.py has the proof that it is a part of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from waybill.testing.receipts import Receipt

# Stands for the consumer of a queue with a single active one.
ACTIVE = "the active consumer"


class Round:
    """One round of markers, as plain values: which consumer still owes its marker, and where to send another.

    Args:
        consumers_by_worker: worker -> the queues that it consumes.
        single: the queues with a single active consumer; nobody but the broker knows which.
    """

    def __init__(self, consumers_by_worker: Mapping[str, Iterable[str]], single: Collection[str] = ()) -> None:
        self.owed: dict[str, set[str]] = defaultdict(set)
        self._single = frozenset(single)
        for worker, queues in consumers_by_worker.items():
            for queue in queues:
                self.owed[queue].add(ACTIVE if queue in self._single else worker)

    def markers(self) -> Iterable[str]:
        """The queues to publish a marker to, once for each of their consumers."""
        return [queue for queue, workers in self.owed.items() for _ in workers]

    def received(self, receipt: Receipt) -> bool:
        """Note a marker's receipt; False when that consumer had answered already, and the queue needs another."""
        workers = self.owed[receipt.queue]
        worker = ACTIVE if receipt.queue in self._single else receipt.worker
        if worker in workers:
            workers.remove(worker)
            return True
        return not workers

    @property
    def is_complete(self) -> bool:
        return not any(self.owed.values())

    def __str__(self) -> str:
        return ", ".join(f"{worker} ({queue})" for queue, workers in self.owed.items() for worker in sorted(workers))
