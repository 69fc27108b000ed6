"""A route with its reasons: every exchange the message came by, every binding tried there, and why (not).

    trace = trace_route(router, message)
    trace.queues                       what `router.route(message)` gives
    trace.root.attempts                the bindings of the first exchange, each with its reason
    trace.root.onward                  the exchanges it went on to, and so on down

The walk is the router's. Reasons are worded when they are read: a trace costs little more than a route,
however many bindings were tried, and stays true to the moment it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

from waybill.declarations import effective_type
from waybill.publishing import routing_keys
from waybill.reasons import explain
from waybill.topology import DEFAULT_EXCHANGE, Binding, Exchange, Message, Queue


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
    """

    exchange: str
    type: str
    reached_by: str
    attempts: Sequence[Attempt] = ()
    note: str = ""
    onward: tuple[Visit, ...] = ()

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
        return all(visit.type in _CERTAIN for visit in self.visits())

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


def plain(value: Any) -> Any:
    """An AMQP field as JSON can hold it: bytes as text, timestamps and decimals as they are written."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


class Walkable(Protocol):
    """What of a router is needed here."""

    @property
    def queues(self) -> Mapping[str, Queue]: ...

    @property
    def exchanges(self) -> Mapping[str, Exchange]: ...

    def matched_at(self, exchange: str, keys: Sequence[str], headers: Mapping[str, Any]) -> list[Binding]: ...

    def tried_at(self, exchange: str) -> tuple[Binding, ...]: ...


class _Stop:
    """A visit while the walk is under way: its onward visits aren't known yet."""

    __slots__ = ("exchange", "note", "onward", "reached_by")

    def __init__(self, exchange: str, reached_by: str) -> None:
        self.exchange = exchange
        self.reached_by = reached_by
        self.note = ""
        self.onward: list[_Stop] = []


def trace_route(router: Walkable, message: Message) -> Trace:
    """Walk as `Router.route` does and keep what was tried; the caller has checked the publication."""
    keys = routing_keys(message.routing_key, message.headers)
    if message.exchange == DEFAULT_EXCHANGE:
        return _trace_default(router, message, keys)
    first = _Stop(message.exchange, "published here")
    stops = [first]
    seen = {message.exchange}
    queues: dict[str, None] = {}
    for stop in stops:  # grows while it is walked: what is found goes to its end
        if stop.note:
            continue
        for exchange, how in _leave(router, stop, keys, message.headers, queues):
            onward = _Stop(exchange, how)
            if exchange not in router.exchanges:
                onward.note = "does not exist"
            elif exchange in seen:
                onward.note = "was visited before"
            seen.add(exchange)
            stop.onward.append(onward)
            stops.append(onward)
    return Trace(message, tuple(queues), _freeze(router, stops, keys, message.headers))


_CERTAIN = frozenset({"", "direct", "fanout", "topic", "headers", "x-recent-history"})
"""The types whose choice is known, and that of an exchange that doesn't exist."""


def _leave(
    router: Walkable, stop: _Stop, keys: Sequence[str], headers: Mapping[str, Any], queues: dict[str, None]
) -> list[tuple[str, str]]:
    """Collect the queues that take the message here, and give the exchanges it goes on to, and how."""
    matched = router.matched_at(stop.exchange, keys, headers)
    ahead: dict[str, str] = {}
    for binding in matched:
        if binding.destination_type == "queue":
            queues[binding.destination] = None
        else:
            ahead.setdefault(binding.destination, f"bound from {stop.exchange} with `{binding.binding_key}`")
    alternate = router.exchanges[stop.exchange].alternate
    if not matched and alternate is not None:
        ahead[alternate] = f"alternate exchange of {stop.exchange}"
    return list(ahead.items())


def _freeze(router: Walkable, stops: list[_Stop], keys: Sequence[str], headers: Mapping[str, Any]) -> Visit:
    """The stops as frozen visits: each stands behind the one that led to it, so the last is built first."""
    visits: dict[_Stop, Visit] = {}
    for stop in reversed(stops):
        name = stop.exchange
        exchange = router.exchanges.get(name)
        kind = "" if exchange is None else effective_type(exchange)
        tried = () if stop.note else Attempts(router.tried_at(name), kind, keys, headers)
        onward = tuple([visits[ahead] for ahead in stop.onward])
        visits[stop] = Visit(name, kind, stop.reached_by, tried, stop.note, onward)
    return visits[stops[0]]


def _trace_default(router: Walkable, message: Message, keys: Sequence[str]) -> Trace:
    attempts = []
    for key in keys:
        is_queue = key in router.queues
        reason = "the routing key is the queue's name" if is_queue else f"no queue is named `{key}`"
        attempts.append(Attempt(Binding(DEFAULT_EXCHANGE, key, key), is_queue, reason))
    queues = tuple(attempt.binding.destination for attempt in attempts if attempt.is_match)
    return Trace(message, queues, Visit(DEFAULT_EXCHANGE, "direct", "published here", tuple(attempts)))
