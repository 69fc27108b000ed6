"""Ask waybill's router about a case: the same declarations, messages and deaths, and the same form of answer.

What is kept here is which message lies in which queue. Where one goes, when it is published and when it
dies, is the router's word alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.cases.case import Case, Death, Declaration, Outcome, Refusal
from waybill.errors import TopologyError
from waybill.routing import Router
from waybill.routing.dead_letters import Deaths, follow
from waybill.topology import Exchange, Message, Queue


@dataclass(frozen=True)
class Held:
    """A message as it lies in a queue, with its history."""

    number: int
    message: Message
    deaths: Deaths = ()
    keys: tuple[str, ...] | None = None


def run_on_engine(case: Case) -> Outcome:
    """What the router says becomes of the case's messages."""
    run = EngineRun(case)
    return case.settled(run.outcome())


def declare(router: Router, item: Declaration) -> None:
    """Declare or bind."""
    if isinstance(item, Exchange):
        router.declare_exchange(item)
    elif isinstance(item, Queue):
        router.declare_queue(item)
    else:
        router.bind(item)


@dataclass
class EngineRun:
    """One case under way."""

    case: Case
    router: Router = field(default_factory=Router)
    held: dict[str, list[Held]] = field(default_factory=dict)

    def outcome(self) -> Outcome:
        """Declare, publish, let die."""
        refused: dict[str, Refusal] = {}
        returned = set()
        for position, item in enumerate(self.case.declare):
            try:
                declare(self.router, item)
            except TopologyError as error:
                refused[f"declare {position}"] = Refusal(error.reply_code, error.text)
        for number, message in enumerate(self.case.publish):
            try:
                queues = self.router.route(message)
            except TopologyError as error:
                refused[f"publish {number}"] = Refusal(error.reply_code, error.text)
                continue
            self._arrive(queues, Held(number, message))
            if not queues:
                returned.add(number)
        for death in self.case.deaths:
            if not death.is_on_arrival:
                self._die_in(death)
        return Outcome(self._queues(), frozenset(returned), refused)

    def _arrive(self, queues: tuple[str, ...], held: Held) -> None:
        for name in queues:
            self.held.setdefault(name, []).append(held)
            for death in self.case.deaths:
                if death.queue == name and death.is_on_arrival:
                    self._die_in(death)

    def _die_in(self, death: Death) -> None:
        for held in self.held.pop(death.queue, ()):
            step = follow(self.router, death.queue, held.message, death.reason, held.deaths, keys=held.keys, hops=1)
            if step.message is not None:
                self._arrive(step.queues, Held(held.number, step.message, step.deaths, step.routing_keys))

    def _queues(self) -> dict[str, tuple[int, ...]]:
        return {name: self._in_order(name, inside) for name, inside in self.held.items() if inside}

    def _in_order(self, name: str, inside: list[Held]) -> tuple[int, ...]:
        queue = self.router.queues[name]
        inside = sorted(inside, key=lambda held: -queue.level_of(held.message.priority))  # a stable sort
        return tuple(held.number for held in inside)
