"""Walk as the router walks, and keep what was tried: the maker of traces (trace.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from waybill.matching.consistent_hash import hash_of
from waybill.routing.publishing import delay_of, routing_keys
from waybill.routing.trace import Attempt, Attempts, Trace, Visit
from waybill.topology import DEFAULT_EXCHANGE, Binding, Exchange, Message, Queue
from waybill.topology.declarations import DELAYED, effective_type
from waybill.topology.fields import plain

__all__ = ["Attempt", "Attempts", "Trace", "Visit", "plain", "trace_route"]


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


_TOLD = frozenset({"", "direct", "fanout", "headers", "topic", "x-recent-history"})
"""Types whose choice is told here; of the others it is by chance, by the node a queue is on, or a plugin's secret."""


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
        tried: Sequence[Attempt] = ()
        is_certain = kind in _TOLD
        if exchange is not None and not stop.note:
            tried = Attempts(router.tried_at(name), kind, keys, headers)
            if kind == "x-consistent-hash":
                tried, is_certain = _hashed(router, exchange, keys, headers)
        note = stop.note or _held_back(exchange, headers)
        onward = tuple([visits[ahead] for ahead in stop.onward])
        visits[stop] = Visit(name, kind, stop.reached_by, tried, note, onward, is_certain)
    return visits[stops[0]]


def _held_back(exchange: Exchange | None, headers: Mapping[str, Any]) -> str:
    """What a delaying exchange does before it routes; empty for any other."""
    if exchange is None or exchange.type != DELAYED:
        return ""
    delay = delay_of(headers)
    if not delay:
        return f"{DELAYED}: routes at once, the message has no header x-delay above 0"
    return f"{DELAYED}: holds the message for {delay} ms, and returns it at once where it is mandatory"


def _hashed(
    router: Walkable, exchange: Exchange, keys: Sequence[str], headers: Mapping[str, Any]
) -> tuple[tuple[Attempt, ...], bool]:
    """What a consistent-hash exchange tried, and whether its choice can be told."""
    chosen = router.matched_at(exchange.name, keys, headers)
    if hash_of(exchange.arguments, keys[0], headers) is None:
        reason = "one of those the hash chooses from; which, only the broker knows"
        return tuple(Attempt(b, b in chosen, reason) for b in router.tried_at(exchange.name)), False
    taker = chosen[0].destination if chosen else ""
    return tuple(
        Attempt(b, b in chosen, f"the hash falls into a bucket of `{taker}`") for b in router.tried_at(exchange.name)
    ), True


def _trace_default(router: Walkable, message: Message, keys: Sequence[str]) -> Trace:
    attempts = []
    for key in keys:
        is_queue = key in router.queues
        reason = "the routing key is the queue's name" if is_queue else f"no queue is named `{key}`"
        attempts.append(Attempt(Binding(DEFAULT_EXCHANGE, key, key), is_queue, reason))
    queues = tuple(attempt.binding.destination for attempt in attempts if attempt.is_match)
    return Trace(message, queues, Visit(DEFAULT_EXCHANGE, "direct", "published here", tuple(attempts)))
