"""Who received a message: as values that read well in an assertion, and know why they are so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from waybill.celery_app.publication import Publication
from waybill.testing.receipts import Receipt


class Queues(frozenset[str]):
    """The queues from which a message was received; compares as any set of names.

    Attributes:
        publications: what was published, to say why when an assertion fails.
        receipts: what was received of it.
    """

    publications: tuple[Publication, ...]
    receipts: tuple[Receipt, ...]

    def __new__(
        cls, queues: Iterable[str], publications: Iterable[Publication] = (), receipts: Iterable[Receipt] = ()
    ) -> Self:
        made = super().__new__(cls, queues)
        made.publications, made.receipts = tuple(publications), tuple(receipts)
        return made

    def __repr__(self) -> str:
        return repr(set(self)) if self else "set()"


class ByName(dict[str, Any]):
    """A mapping whose values, or names, are queues; compares as any dict.

    Attributes:
        keyed_by: what its names are: `worker`, `queue` or `task`.
        publications: what was published, to say why when an assertion fails.
        receipts: what was received of it.
    """

    def __init__(
        self,
        found: Mapping[str, Any],
        keyed_by: str,
        publications: Iterable[Publication] = (),
        receipts: Iterable[Receipt] = (),
    ) -> None:
        super().__init__(found)
        self.keyed_by = keyed_by
        self.publications = tuple(publications)
        self.receipts = tuple(receipts)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message, as published, and every receipt of it, in the order of the workers' clocks."""

    publication: Publication
    received: tuple[Receipt, ...]

    @property
    def returned(self) -> bool:
        """Whether the broker returned it, since no queue took it."""
        return self.publication.is_returned

    @property
    def queues(self) -> Queues:
        """The queues from which a worker received it; not those of a worker that threw it away."""
        received = (one.queue for one in self.received if not one.is_discarded)
        return Queues(received, [self.publication], self.received)

    @property
    def by_worker(self) -> ByName:
        """Worker name -> queue: who received it, and from where. A set of queues where one worker has it from several.

        Raises:
            ValueError: a worker received it twice from one queue, or threw it away; then only `received` tells the
                whole.
        """
        found: dict[str, list[str]] = defaultdict(list)
        for receipt in self._each_once():
            found[receipt.worker_name].append(receipt.queue)
        named = {worker: queues[0] if len(queues) == 1 else set(queues) for worker, queues in found.items()}
        return ByName(named, "worker", [self.publication], self.received)

    @property
    def by_queue(self) -> ByName:
        """Queue -> worker name: from where it was received, and by whom.

        Raises:
            ValueError: as `by_worker`.
        """
        named = {receipt.queue: receipt.worker_name for receipt in self._each_once()}
        return ByName(named, "queue", [self.publication], self.received)

    def _each_once(self) -> tuple[Receipt, ...]:
        """The receipts, if none is of a message thrown away, and none of a queue that gave it twice."""
        if discarded := [receipt for receipt in self.received if receipt.is_discarded]:
            raise ValueError(f"discarded: {'; '.join(discarded_by(receipt) for receipt in discarded)}")
        if len({receipt.queue for receipt in self.received}) != len(self.received):
            places = ", then ".join(receipt.place for receipt in self.received)
            raise ValueError(f"{self.publication.task} was received more than once from one queue: {places}")
        return self.received

    def to_dict(self) -> dict[str, Any]:
        """As the publishers' `--json` prints it."""
        sent = self.publication
        return {
            "exchange": sent.exchange,
            "routing_key": sent.routing_key,
            "headers": dict(sent.headers),
            "priority": sent.priority,
            "task": sent.task,
            "task_id": sent.task_id,
            "received": [
                {"worker": receipt.worker, "queue": receipt.queue, "redelivered": receipt.redelivered}
                for receipt in self.received
            ],
            "returned": sent.is_returned,
        }


def discarded_by(receipt: Receipt) -> str:
    """Who threw a message away, and why, for a sentence."""
    why = "it has no such task" if receipt.reason == "unknown task" else receipt.reason
    return f"{receipt.place} threw {receipt.task} away ({why})"
