"""A route with its reasons, as values: the exchanges a message came by, the bindings tried, and why (not).

    trace.queues                       where the message goes
    trace.root.attempts                the bindings of the first exchange, each with its reason
    trace.root.onward                  the exchanges it went on to, and so on down

Reasons are worded when they are read: a trace costs little more than a route, however many bindings were
tried, and stays true to the moment it was made. walk.py makes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from waybill.matching.reasons import explain
from waybill.topology import Binding, Message
from waybill.topology.fields import plain


@dataclass(frozen=True, slots=True)
class Attempt:
    """One binding tried with one message."""

    binding: Binding
    is_match: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """As the command line's `--json` shows it."""
        binding = self.binding
        return {
            "destination": binding.destination,
            "destination_type": binding.destination_type,
            "binding_key": binding.binding_key,
            "arguments": plain(binding.arguments),
            "matched": self.is_match,
            "reason": self.reason,
        }


class Attempts(Sequence[Attempt]):
    """The bindings of one exchange, tried with one message when they are looked at.

    Args:
        bindings: as they were when the message came by.
        kind: the type that the exchange routes by.
        keys: the message's routing keys.
    """

    __slots__ = ("_bindings", "_headers", "_keys", "_kind")

    def __init__(self, bindings: Sequence[Binding], kind: str, keys: Sequence[str], headers: Mapping[str, Any]) -> None:
        self._bindings = bindings
        self._kind = kind
        self._keys = keys
        self._headers = headers

    def _try(self, binding: Binding) -> Attempt:
        return Attempt(binding, *explain(self._kind, binding, self._keys, self._headers))

    @overload
    def __getitem__(self, index: int) -> Attempt: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Attempt, ...]: ...
    def __getitem__(self, index: int | slice) -> Attempt | tuple[Attempt, ...]:
        if isinstance(index, slice):
            return tuple(self._try(binding) for binding in self._bindings[index])
        return self._try(self._bindings[index])

    def __iter__(self) -> Iterator[Attempt]:
        return map(self._try, self._bindings)

    def __len__(self) -> int:
        return len(self._bindings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash((self._kind, tuple(self._keys), len(self._bindings)))

    def __repr__(self) -> str:
        return repr(tuple(self))


@dataclass(frozen=True, slots=True)
class Visit:
    """A message at an exchange.

    Args:
        reached_by: in a few words, how it came there: published, by a binding, as alternate exchange.
        note: what the attempts don't say: nothing matched, seen before, not declared; or empty.
        onward: where it went from here, exchanges only.
        is_certain: False where the exchange chooses by what isn't known offline; all its candidates matched.
    """

    exchange: str
    type: str
    reached_by: str
    attempts: Sequence[Attempt] = ()
    note: str = ""
    onward: tuple[Visit, ...] = ()
    is_certain: bool = True

    @property
    def matched(self) -> tuple[Attempt, ...]:
        """The attempts that matched."""
        return tuple(attempt for attempt in self.attempts if attempt.is_match)

    def to_json(self) -> dict[str, Any]:
        """As the command line's `--json` shows it."""
        return {
            "exchange": self.exchange,
            "type": self.type,
            "reached_by": self.reached_by,
            "note": self.note,
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "onward": [visit.exchange for visit in self.onward],
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """A message's whole way; `queues` is what `Router.route` gives."""

    message: Message
    queues: tuple[str, ...]
    root: Visit

    @property
    def is_certain(self) -> bool:
        """False where an exchange chooses by what isn't known offline: `queues` are its candidates."""
        return all(visit.is_certain for visit in self.visits())

    @property
    def is_unroutable(self) -> bool:
        """Whether no queue takes the message."""
        return not self.queues

    def visits(self) -> Iterator[Visit]:
        """Every visit, from the first exchange down."""
        stack = [self.root]
        while stack:
            visit = stack.pop()
            yield visit
            stack.extend(reversed(visit.onward))

    def to_json(self) -> dict[str, Any]:
        """`{"queues": [...], "unroutable": bool, "certain": bool, "trace": [...]}`, an entry a visit."""
        return {
            "queues": list(self.queues),
            "unroutable": self.is_unroutable,
            "certain": self.is_certain,
            "trace": [visit.to_json() for visit in self.visits()],
        }
