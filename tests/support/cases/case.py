"""A case: what is declared, what is published, and where that must end up.

One case is one row of the case table in table.py, or one thing that the generator made up. It says
nothing of who answers: engine.py asks waybill's router, live.py asks a broker over AMQP, and both give an
`Outcome`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from waybill.topology import Binding, Exchange, Message, Queue

Declaration = Exchange | Queue | Binding

Reason = Literal["rejected", "expired", "maxlen", "delivery_limit"]


@dataclass(frozen=True, order=True)
class Refusal:
    """A channel that the broker closed: the reply code, and its sentence without `PRECONDITION_FAILED - `."""

    code: int
    text: str


@dataclass(frozen=True)
class Death:
    """The messages in one queue are dead-lettered.

    Args:
        queue: where they lie.
        reason: `expired` and `maxlen` happen to every message on arrival, for the case declares the queue
            so (a TTL or a length of 0); for `rejected` and `delivery_limit` a consumer takes all that is
            there, once, when the deaths before it in the case are over.
    """

    queue: str
    reason: Reason

    @property
    def is_on_arrival(self) -> bool:
        """Whether the queue itself does it, without a consumer."""
        return self.reason in ("expired", "maxlen")


@dataclass(frozen=True)
class Outcome:
    """What became of a case's declarations and messages; messages are named by their number in the case.

    Args:
        queues: what lies in each queue at the end, in the order a consumer gets it; empty ones are left
        out.
        returned: the messages that came back as unroutable (312) before they were confirmed.
        refused: `declare 2` or `publish 0` -> how the broker refused it.
    """

    queues: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    returned: frozenset[int] = frozenset()
    refused: Mapping[str, Refusal] = field(default_factory=dict)

    def in_any_order(self) -> Outcome:
        """The same without the order inside a queue, where dead letters and publications may overtake."""
        queues = {name: tuple(sorted(held)) for name, held in self.queues.items()}
        return Outcome(queues, self.returned, self.refused)


def reaches(*queues: str) -> Outcome:
    """One message, a copy in each of these queues; in none, it is returned."""
    return Outcome(dict.fromkeys(queues, (0,)), frozenset() if queues else frozenset({0}))


def vanishes() -> Outcome:
    """One message that a queue took, and that lies in none at the end."""
    return Outcome()


def delivers(**queues: tuple[int, ...]) -> Outcome:
    """Several messages, and the order in which each queue gives them out."""
    return Outcome(queues)


def refuses(what: str, code: int, text: str) -> Outcome:
    """Nothing but a refusal; `what` is `declare <position>` or `publish <number>`."""
    return Outcome(refused={what: Refusal(code, text)})


@dataclass(frozen=True)
class Case:
    """One row: declare, publish, let die, and compare.

    Args:
        claim: what the row shows, in words; it is the test's name.
        source: who says so: a measurement, a page of RabbitMQ's documentation, a file of its source.
        declare: in this order; one that is refused is left out and the rest goes on.
        publish: in this order, each mandatory and confirmed.
        deaths: what happens to the messages then.
    """

    claim: str
    source: str
    declare: tuple[Declaration, ...]
    publish: tuple[Message, ...] = ()
    expect: Outcome = Outcome()
    deaths: tuple[Death, ...] = ()

    def settled(self, outcome: Outcome) -> Outcome:
        """`outcome` in the form in which two answers to this case can be compared."""
        return outcome.in_any_order() if self.deaths else outcome

    @property
    def queues(self) -> dict[str, Queue]:
        """The queues by name, as first declared."""
        declared = (item for item in self.declare if isinstance(item, Queue))
        return {queue.name: queue for queue in reversed(tuple(declared))}
