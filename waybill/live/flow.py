"""Messages on their way: publications, the deliveries that belong to them, counts, and the last ones kept."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from waybill.errors import TopologyError
from waybill.live import names
from waybill.live.events import Event
from waybill.routing import Router
from waybill.routing.trace import Trace, Visit
from waybill.topology import Binding, Message

MAX_MESSAGES = 10_000
MAX_BYTES = 64 * 1024 * 1024
"""What is kept; the oldest go first."""

SECOND = 1.0

LATELY = 10.0
"""Seconds for which a consumer counts of whom only the firehose tells."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a message, from one node to another."""

    time: float
    kind: str
    source: str
    target: str

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return {"time": self.time, "kind": self.kind, "from": self.source, "to": self.target}


@dataclass(slots=True)
class Flowing:
    """One publication and what became of it.

    Attributes:
        number: counted from 1, as they came.
        sender: the publisher's name.
        queues: those that it reached. To the default exchange RabbitMQ's firehose names a queue whether there is one
            or not, so of those only the ones that are there.
        predicted: the queues by the engine; None where it cannot know.
        ways: queue → the edges to it.
        taken: queue → the edges from it to those who were given the message.
        delivered: queue → how often.
    """

    number: int
    event: Event
    sender: str
    queues: tuple[str, ...]
    predicted: tuple[str, ...] | None
    ways: dict[str, list[str]]
    hops: list[Hop]
    taken: dict[str, dict[str, None]] = field(default_factory=dict)
    delivered: Counter[str] = field(default_factory=Counter)
    deaths: list[Mapping[str, Any]] = field(default_factory=list)
    refusal: str = ""

    @property
    def is_mismatch(self) -> bool:
        """Whether it went otherwise than predicted."""
        return self.predicted is not None and set(self.predicted) != set(self.queues)

    @property
    def state(self) -> str:
        """In a word."""
        if self.is_mismatch:
            return "mismatch"
        if not self.queues:
            return "unroutable"
        if self.deaths:
            return "dead_lettered"
        return "delivered" if all(self.delivered[queue] for queue in self.queues) else "routed"

    def paths(self) -> list[list[str]]:
        """The edges that it came by, a list for each queue, or one to the exchange."""
        return [[*way, *self.taken.get(queue, ())] for queue, way in self.ways.items()]

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        event, headers = self.event, self.event.headers
        return {
            "number": self.number,
            "time": event.time,
            "id": _text(headers.get("id") or event.properties.get("message_id")),
            "task": _text(headers.get("task")) or None,
            "exchange": event.exchange,
            "key": event.keys[0] if event.keys else "",
            "keys": list(event.keys),
            "sender": self.sender,
            "queues": list(self.queues),
            "predicted": None if self.predicted is None else list(self.predicted),
            "state": self.state,
            "root": _text(headers.get("root_id")),
            "parent": _text(headers.get("parent_id")) or None,
            "group": _text(headers.get("group")) or None,
            "retries": headers.get("retries") or 0,
            "hops": [hop.to_json() for hop in self.hops],
            "edges": self.paths(),
        }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


class Flow:
    """The messages of one vhost.

    Attributes:
        sent: publisher and exchange of all publications.
        defaults: queues that something reached by the default exchange.
        edges: how often each was gone along.
        consumed: of the edges to consumers, the queue, the connection, and when it was gone along last.
    """

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._kept: OrderedDict[int, Flowing] = OrderedDict()
        self._bytes = 0
        self._by_identity: dict[str, deque[Flowing]] = defaultdict(deque)
        self.last = 0
        self.sent: dict[tuple[str, str], None] = {}
        self.defaults: dict[str, None] = {}
        self.edges: Counter[str] = Counter()
        self.consumed: dict[str, tuple[str, str, float]] = {}
        self._recent: deque[tuple[float, str]] = deque(maxlen=100_000)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, number: int) -> Flowing | None:
        """One message, None where it is forgotten."""
        return self._kept.get(number)

    def after(self, number: int, limit: int) -> list[Flowing]:
        """The newest `limit` messages behind a number, oldest first."""
        found: list[Flowing] = []
        for one in reversed(self._kept.values()):
            if one.number <= number or len(found) >= limit:
                break
            found.append(one)
        return found[::-1]

    def where(self, is_wanted: Callable[[Flowing], bool]) -> list[Flowing]:
        """Those of the kept ones that are wanted, oldest first."""
        return [one for one in self._kept.values() if is_wanted(one)]

    def rates(self, now: float) -> Counter[str]:
        """Edge → how often in the last second."""
        while self._recent and self._recent[0][0] < now - SECOND:
            self._recent.popleft()
        return Counter(edge for _, edge in self._recent)

    def consumers(self) -> frozenset[tuple[str, str]]:
        """Queue and connection of those who were given something lately: the API may not know of them yet."""
        last = max((time for _, _, time in self.consumed.values()), default=0.0)
        return frozenset((queue, who) for queue, who, time in self.consumed.values() if time > last - LATELY)

    # in

    def published(self, event: Event, sender: str, router: Router) -> Flowing:
        """A publication."""
        trace, refusal = predicted(router, event)
        self.last += 1
        way = names.published(sender, event.exchange)
        reached = _reached(event, router)
        paths = _paths(trace, event, reached, way)
        hop = Hop(event.time, "publish", names.node("publisher", sender), names.node("exchange", event.exchange))
        queues = trace.queues if trace is not None and trace.is_certain else None
        one = Flowing(self.last, event, sender, reached, queues, paths, [hop], refusal=refusal)
        self.sent[sender, event.exchange] = None
        if not event.exchange:
            self.defaults |= dict.fromkeys(reached)
        self._gone(event.time, _edges(paths))
        self._keep(one)
        return one

    def again(self, one: Flowing, router: Router) -> bool:
        """Predict a publication once more, by newer declarations; returns whether it goes as predicted now."""
        trace, refusal = predicted(router, one.event)
        queues = trace.queues if trace is not None and trace.is_certain else None
        one.predicted, one.refusal = queues, refusal
        one.queues = _reached(one.event, router)
        if not one.event.exchange:
            self.defaults |= dict.fromkeys(one.queues)
        before = _edges(one.ways)
        way = names.published(one.sender, one.event.exchange)
        kept = {queue: one.ways[queue] for queue in one.taken if queue not in one.queues}  # ways of dead letters
        one.ways = _paths(trace, one.event, one.queues, way) | kept
        self._gone(one.event.time, _edges(one.ways) - before)
        return not one.is_mismatch

    def delivered(self, event: Event, router: Router) -> Flowing | None:
        """A delivery, whose consumer goes by its connection here: None where nobody has seen its publication."""
        one = self._publication_of(event)
        if one is None:
            return None
        queue = event.queues[0]
        deaths = event.deaths
        if deaths and queue not in one.event.queues and not one.delivered[queue]:
            one.deaths = [dict(death) for death in deaths]
            self._died(one, event, queue, router)
        one.delivered[queue] += 1
        edge = names.consumed(queue, event.connection)
        self.consumed[edge] = queue, event.connection, event.time
        source, target = names.node("queue", queue), names.node("worker", event.connection)
        one.hops.append(Hop(event.time, "deliver", source, target))
        one.ways.setdefault(queue, [])
        one.taken.setdefault(queue, {})[edge] = None
        self._gone(event.time, (edge,))
        return one

    def _died(self, one: Flowing, event: Event, queue: str, router: Router) -> None:
        """A dead letter is seen when it is delivered again: by which queue it came, its header tells."""
        origin, exchange = str(one.deaths[0].get("queue", "")), event.exchange
        hops = (names.node("queue", origin), names.node("exchange", exchange))
        one.hops.append(Hop(event.time, "dead_letter", *hops))
        trace, _ = predicted(router, event)
        ways = [] if trace is None else [path for name, path in _ways(trace.root) if name == queue]
        path = [names.dead_lettered(origin, exchange), *(ways[0] if ways else ())]
        one.ways[queue] = path
        self._gone(event.time, path)

    def _publication_of(self, event: Event) -> Flowing | None:
        found = self._by_identity.get(event.identity, ())
        queue = event.queues[0]
        waiting = [one for one in found if queue in one.event.queues and not one.delivered[queue]]
        if waiting and not event.is_redelivered:
            return waiting[0]
        seen = [one for one in found if one.delivered[queue]]
        if event.is_redelivered and seen:
            return seen[-1]
        return waiting[0] if waiting else next(iter(found), None)

    def _gone(self, time: float, edges: Iterable[str]) -> None:
        for edge in edges:
            self.edges[edge] += 1
            self._recent.append((time, edge))

    def _keep(self, one: Flowing) -> None:
        self._kept[one.number] = one
        self._by_identity[one.event.identity].append(one)
        self._bytes += len(one.event.body)
        while len(self._kept) > self._max_messages or self._bytes > self._max_bytes:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= len(gone.event.body)
            same = self._by_identity[gone.event.identity]
            same.remove(gone)
            if not same:
                del self._by_identity[gone.event.identity]


def predicted(router: Router, event: Event) -> tuple[Trace | None, str]:
    """The way by the engine, and the sentence of a refusal; None where it knows no such exchange."""
    key = event.keys[0] if event.keys else ""
    headers = {**event.headers}
    if event.kind == "publish" and len(event.keys) > 1:  # BCC is taken out of what is shown
        headers["CC"] = [*event.keys[1:]]
    try:
        return router.trace(Message(event.exchange, key, headers)), ""
    except TopologyError as error:
        return None, f"{error.reply_code} {error}"


def ways(trace: Trace) -> list[list[str]]:
    """The edges to each queue that a trace reaches."""
    return [path for _, path in _ways(trace.root)]


def _ways(visit: Visit) -> list[tuple[str, list[str]]]:
    found = []
    onward = {next_visit.exchange: next_visit for next_visit in visit.onward}
    for attempt in visit.matched:
        edge = names.bound(attempt.binding)
        if attempt.binding.destination_type == "queue":
            found.append((attempt.binding.destination, [edge]))
        elif (further := onward.pop(attempt.binding.destination, None)) is not None:
            found += [(queue, [edge, *path]) for queue, path in _ways(further)]
    for further in onward.values():
        edge = names.alternate(visit.exchange, further.exchange)
        found += [(queue, [edge, *path]) for queue, path in _ways(further)]
    return found


def _reached(event: Event, router: Router) -> tuple[str, ...]:
    return event.queues if event.exchange else tuple(one for one in event.queues if one in router.queues)


def _paths(trace: Trace | None, event: Event, reached: tuple[str, ...], way: str) -> dict[str, list[str]]:
    """The edges to each queue that it was seen to reach; where it reached none, the one to the exchange."""
    by_queue: dict[str, list[str]] = {}
    if trace is not None:
        for queue, path in _ways(trace.root):
            by_queue.setdefault(queue, path)
    if not event.exchange:  # in a trace that queue needs no binding
        by_queue |= {queue: [names.bound(Binding("", queue, queue))] for queue in reached}
    return {queue: [way, *by_queue.get(queue, ())] for queue in reached} or {"": [way]}


def _edges(ways: Mapping[str, list[str]]) -> set[str]:
    return {edge for way in ways.values() for edge in way}
