"""Make a case from a seed: exchanges of all types in a tangle, queues, bindings, and many messages.

The queues that every case has are declared alike in all of them, for a broker keeps those from case to
case; what differs is how they are bound. Queues that dead-letter are made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.support.cases.case import Case, Death, Declaration, Reason
from tools.conformance import vocabulary
from tools.conformance.vocabulary import chance
from waybill.topology import Binding, Exchange, Message, Queue

TYPES = ("topic", "topic", "topic", "headers", "headers", "direct", "fanout")


def _queue(name: str, **arguments: Any) -> Queue:
    named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    return Queue(name, durable=False, exclusive=True, arguments=named)


QUEUES = (
    *(_queue(name) for name in ("q0", "q1", "q2", "q3", "a", "grün.日本")),
    _queue("p3", max_priority=3),
    _queue("p10", max_priority=10),
)

CAUSES: Mapping[Reason, Mapping[str, Any]] = {
    "rejected": {},
    "expired": {"message_ttl": 0},
    "maxlen": {"max_length": 0},
}
"""What a queue is declared with so that its messages die, on arrival where they can."""


@dataclass
class Generator:
    """One case in the making; everything follows from `rng`."""

    rng: Random
    exchanges: list[Exchange] = field(default_factory=list)
    queues: list[Queue] = field(default_factory=lambda: list(QUEUES))
    bindings: list[Binding] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)

    def case(self, claim: str, messages: int) -> Case:
        """A whole case; `messages` are published in it."""
        names = [f"x{number}" for number in range(self.rng.randint(1, 6))]
        self.exchanges = [self._exchange(name, names) for name in names]
        if chance(self.rng, 40):
            dying = [f"d{number}" for number in range(self.rng.randint(1, 3))]
            for name in dying:
                self._dying_queue(name, names, dying)
        self.bindings = [self._binding() for _ in range(self.rng.randint(3, 7) * len(names))]
        published = tuple(self._message() for _ in range(messages))
        declare: tuple[Declaration, ...] = (*self.exchanges, *self.queues, *self.bindings)
        return Case(claim, "generated", declare, published, deaths=tuple(self.deaths))

    def _exchange(self, name: str, names: Sequence[str]) -> Exchange:
        arguments: dict[str, Any] = {}
        if chance(self.rng, 35):
            arguments["alternate-exchange"] = self.rng.choice((*names, *names, "nowhere", ""))
        return Exchange(name, self.rng.choice(TYPES), internal=chance(self.rng, 8), arguments=arguments)

    def _dying_queue(self, name: str, exchanges: Sequence[str], dying: Sequence[str]) -> None:
        """A queue that hands its messages on, in a third of the cases straight to another of its kind."""
        reason: Reason = self.rng.choice(tuple(CAUSES))
        arguments = {**CAUSES[reason]}
        if chance(self.rng, 35):
            arguments.update(dead_letter_exchange="", dead_letter_routing_key=self.rng.choice(dying))
        else:
            arguments["dead_letter_exchange"] = self.rng.choice((*exchanges, *exchanges, "", "nowhere"))
            if chance(self.rng, 55):
                arguments["dead_letter_routing_key"] = self._key(vocabulary.routing_key)
        self.queues.append(_queue(name, **arguments))
        self.deaths.append(Death(name, reason))

    def _binding(self) -> Binding:
        source = self.rng.choice(self.exchanges)
        key = self._key(vocabulary.binding_key if source.type == "topic" else vocabulary.routing_key)
        arguments = self._wanted() if source.type == "headers" or chance(self.rng, 5) else {}
        if chance(self.rng, 25):
            return Binding(source.name, self.rng.choice(self.exchanges).name, key, arguments, "exchange")
        return Binding(source.name, self._a_queue(), key, arguments)

    def _a_queue(self) -> str:
        # Those that die stand at the end, and are few: they must be met often enough.
        return self.rng.choice(self.queues[-3:] if chance(self.rng, 35) else self.queues).name

    def _key(self, make: Callable[[Random], str]) -> str:
        return self._a_queue() if chance(self.rng, 10) else make(self.rng)

    def _wanted(self) -> dict[str, Any]:
        wanted = self._headers()
        if chance(self.rng, 10):
            wanted[self.rng.choice(("CC", "BCC", *vocabulary.DEATH_HEADERS))] = None
        if chance(self.rng, 1.5):
            wanted["x-match"] = self.rng.choice(vocabulary.BAD_MODES)
        elif chance(self.rng, 75):
            wanted["x-match"] = self.rng.choice(vocabulary.MODES)
        else:
            wanted.pop("x-match", None)
        return wanted

    def _headers(self) -> dict[str, Any]:
        count = self.rng.choice((0, 1, 1, 2, 2, 3))
        names = (self.rng.choice(vocabulary.HEADER_NAMES) for _ in range(count))
        return {name: vocabulary.value(self.rng) for name in names}

    def _message(self) -> Message:
        is_meant = chance(self.rng, 50)
        exchange, key, headers = self._meant_for(self._a_binding()) if is_meant else self._stray()
        headers.update(self._copies())
        expiration = self.rng.choice(("3600000", "-1", "1.5", "", "0x1")) if chance(self.rng, 1) else None
        return Message(exchange, key, headers, self.rng.choice(vocabulary.PRIORITIES), expiration)

    def _a_binding(self) -> Binding:
        internal = {exchange.name for exchange in self.exchanges if exchange.internal}
        open_ones = [binding for binding in self.bindings if binding.source not in internal]
        return self.rng.choice(open_ones or self.bindings)

    def _meant_for(self, binding: Binding) -> tuple[str, str, dict[str, Any]]:
        """Where to publish, and with what, so that this binding is likely to match, or only just not to."""
        words = (vocabulary.filled(self.rng, word) for word in binding.binding_key.split("."))
        headers = {name: value for name, value in binding.arguments.items() if name != "x-match"}
        if headers and chance(self.rng, 30):
            headers[self.rng.choice(list(headers))] = vocabulary.value(self.rng)
        headers.pop("BCC", None)
        headers.pop("CC", None)
        return binding.source, ".".join(word for some in words for word in some), headers

    def _stray(self) -> tuple[str, str, dict[str, Any]]:
        exchange, key = self._target()
        return exchange, key, self._headers() if chance(self.rng, 50) else {}

    def _target(self) -> tuple[str, str]:
        if chance(self.rng, 8):
            return "", self.rng.choice((*(queue.name for queue in self.queues), "nowhere"))
        if chance(self.rng, 0.3):
            return "nowhere", ""
        public = [exchange for exchange in self.exchanges if not exchange.internal or chance(self.rng, 1)]
        return self.rng.choice(public).name if public else "", self._key(vocabulary.routing_key)

    def _copies(self) -> dict[str, Any]:
        copies: dict[str, Any] = {}
        for name in ("CC", "BCC"):
            if chance(self.rng, 8):
                copies[name] = [self._key(vocabulary.routing_key) for _ in range(self.rng.randint(0, 3))]
            elif chance(self.rng, 0.3):
                copies[name] = self.rng.choice(("a", None, 1, {"a": 1}, ["a", 1, b"q0"]))
        return copies


def make_case(seed: int, number: int, messages: int) -> Case:
    """The case of that number in the run of that seed; it does not depend on the others."""
    return Generator(Random(f"{seed}/{number}")).case(f"seed {seed}, topology {number}", messages)
