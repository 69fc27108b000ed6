"""Run generated cases on the router and on a broker, count what was compared, and keep what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.support.cases.case import Case, Outcome
from tests.support.engine import run_on_engine
from tests.support.live import LiveBroker
from tools.conformance.generate import make_case
from tools.conformance.shrink import shrink
from waybill.topology import Exchange

MESSAGES = 125
"""Messages for each topology: declaring one takes a broker about as long as routing so many."""


@dataclass
class Comparison:
    """A run under way, and its result.

    Args:
        broker: the broker to compare with.
        seed: names the run; the same seed gives the same cases.
        ask: what answers for waybill; tests put a broken one here.
        prepare: what is done to a generated case before it is compared.
        stop_after: differing topologies after which the run ends.
    """

    broker: LiveBroker
    seed: int
    ask: Callable[[Case], Outcome] = run_on_engine
    prepare: Callable[[Case], Case] = lambda case: case
    stop_after: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    disagreements: list[Case] = field(default_factory=list)

    def run(self, messages: int, progress: Callable[[int], object] = int) -> None:
        """Compare so many messages, or fewer when enough is found to differ."""
        number = 0
        while self.counts["messages"] < messages and len(self.disagreements) < self.stop_after:
            case = make_case(self.seed, number, min(MESSAGES, messages - self.counts["messages"]))
            self._compare(self.prepare(case))
            number += 1
            progress(self.counts["messages"])

    def answers(self, case: Case) -> tuple[Outcome, Outcome]:
        """What the router says and what the broker did."""
        said = self.ask(case)
        suspects = {int(name.split()[1]) for name in said.refused if name.startswith("publish")}
        return said, self.broker.run(case, suspects)

    def differs(self, case: Case) -> bool:
        """Whether the two disagree about a case."""
        said, done = self.answers(case)
        return said != done

    def _compare(self, case: Case) -> None:
        said, done = self.answers(case)
        self._count(case, done)
        if said != done:
            assert self.differs(case), f"{case.claim} differed once and not again: the broker was read too early"
            smallest = shrink(case, self.differs)
            self.disagreements.append(replace(smallest, expect=self.answers(smallest)[1]))

    def _count(self, case: Case, done: Outcome) -> None:
        self.counts["topologies"] += 1
        self.counts["declarations"] += len(case.declare)
        self.counts["declarations refused"] += sum(name.startswith("declare") for name in done.refused)
        self.counts["messages"] += len(case.publish)
        self.counts["messages refused"] += sum(name.startswith("publish") for name in done.refused)
        self.counts["messages returned"] += len(done.returned)
        self.counts["messages with CC or BCC"] += sum(
            "CC" in message.headers or "BCC" in message.headers for message in case.publish
        )
        self.counts["copies found in queues"] += sum(map(len, done.queues.values()))
        self.counts["queues that dead-letter"] += len(case.deaths)
        for item in case.declare:
            if isinstance(item, Exchange):
                self.counts[f"{item.type} exchanges"] += 1
