"""Shape and flow together: what the broker tells goes in, what a page or a terminal shows comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from waybill.diff.declared import Declared
from waybill.errors import TopologyError
from waybill.live import names
from waybill.live.events import Event
from waybill.live.flow import Flow, Flowing, predicted, ways
from waybill.live.layout import COLUMNS, NODE_HEIGHT, NODE_WIDTH, layout, size
from waybill.live.names import KINDS
from waybill.live.shape import Shape, counts, shape_of, workers_of
from waybill.rabbitmq.state import LiveFacts
from waybill.routing.trace import Trace
from waybill.topology import Message

SECRET = ("password", "token", "secret", "key")
"""Values under a name with one of these in it are not shown."""

HIDDEN = "…"


class Collector:
    """What is known of one vhost.

    Args:
        facts: what exists there, as it was first read.
        declared: by the application, where one is known.
        source: how it is known: `embedded` or `firehose`.
        has_bodies: messages' bodies are shown, too.
    """

    def __init__(
        self, facts: LiveFacts, declared: Declared | None = None, *, source: str = "firehose", has_bodies: bool = False
    ) -> None:
        self.facts = facts
        self.source = source
        self._declared = declared
        self._has_bodies = has_bodies
        self._workers = workers_of(facts)
        self._senders: dict[str, str] = {}
        self.flow = Flow()
        self._doubtful: list[Flowing] = []
        self.mismatches = 0
        self.shape = Shape()
        self._places = layout(self.shape)
        self._arranged: tuple[int, ...] | None = None
        self.arrange()

    @property
    def said(self) -> str:
        """Of the source, in a sentence."""
        return SAID[self.source]

    # in

    def take(self, event: Event) -> Flowing | None:
        """What the firehose has copied; None where it is nobody's business."""
        if is_machinery(event):
            return None
        router = self.facts.router
        if event.kind == "deliver":
            return self.flow.delivered(event, router)
        one = self.flow.published(event, self._sender(event), router)
        if one.is_mismatch or one.refusal or one.queues != event.queues:
            one.predicted = None  # by what was read a while ago: it is not said before it is read anew
            self._doubtful.append(one)
        return one

    def _sender(self, event: Event) -> str:
        """A publisher's name: Celery says in a header which process it was."""
        known = self._senders.get(event.connection)
        if known is None:
            origin = event.headers.get("origin")
            worker = self._workers.get(event.connection)
            known = worker or (origin if isinstance(origin, str) else names.peer(event.connection))
            self._senders[event.connection] = known
        return known

    @property
    def is_doubtful(self) -> bool:
        """Whether something went otherwise than by what was read last: to be read anew before it is said."""
        return bool(self._doubtful)

    def take_facts(self, facts: LiveFacts) -> tuple[bool, list[Flowing]]:
        """What exists now.

        Returns:
            Whether the shape is another, and the publications that went otherwise than both before and now predicted.
        """
        self.facts = facts
        self._workers |= workers_of(facts)  # one that has gone keeps its name
        doubtful, self._doubtful = self._doubtful, []
        wrong = [one for one in doubtful if not self.flow.again(one, facts.router)]
        self.mismatches += len(wrong)
        return self.arrange(), doubtful

    def arrange(self) -> bool:
        """Have the shape as it is by now; returns whether it is another."""
        known = id(self.facts), len(self.flow.sent), len(self.flow.defaults), len(self.flow.consumed)
        if known == self._arranged:
            return False
        self._arranged = known
        shape = shape_of(
            self.facts, self._declared, self.flow.sent, self.flow.defaults, self.flow.consumers(), self._workers
        )
        if shape == self.shape:
            return False
        self.shape = shape
        # Before the first message nobody has found his way yet: then order comes before rest.
        rows = {one: place.row for one, place in self._places.items()} if self.flow.last else None
        self._places = layout(shape, rows)
        return True

    # out

    def map(self, now: float) -> dict[str, Any]:
        """The whole map, as /api/map answers."""
        width, height = size(self._places)
        numbers = self.counts(now)
        return {
            "source": self.source,
            "said": self.said,
            "vhost": self.facts.vhost,
            "version": ".".join(map(str, self.facts.version)),
            "width": width,
            "height": height,
            "columns": [{"kind": kind, "title": f"{kind}s", "x": x} for kind, x in zip(KINDS, COLUMNS, strict=True)],
            "nodes": [
                {
                    "id": node.id,
                    "kind": node.kind,
                    "name": node.name or "(default)",
                    "state": node.state,
                    "about": node.about,
                    "column": self._places[node.id].column,
                    "x": self._places[node.id].x,
                    "y": self._places[node.id].y,
                    "w": NODE_WIDTH,
                    "h": NODE_HEIGHT,
                    "marks": [],
                    **numbers["nodes"].get(node.id, {}),
                }
                for node in self.shape.nodes
            ],
            "edges": [
                {
                    "id": edge.id,
                    "from": edge.source,
                    "to": edge.target,
                    "kind": edge.kind,
                    "label": edge.label,
                    **numbers["edges"].get(edge.id, {"count": 0, "rate": 0}),
                }
                for edge in self.shape.edges
            ],
        }

    def counts(self, now: float) -> dict[str, Any]:
        """What changes from second to second."""
        rates, edges = self.flow.rates(now), dict[str, dict[str, int]]()
        for one, count in self.flow.edges.items():
            row = edges.setdefault(self._named(one), {"count": 0, "rate": 0})
            row["count"] += count
            row["rate"] += rates.get(one, 0)
        return {"nodes": {one: {"ready": count} for one, count in counts(self.facts).items()}, "edges": edges}

    def _named(self, edge: str) -> str:
        """An edge to a consumer by the worker's name, which is known a little later than its connection."""
        known = self.flow.consumed.get(edge)
        if known is None:
            return edge
        queue, connection, _ = known
        return names.consumed(queue, self._worker(connection))

    def _worker(self, connection: str) -> str:
        return self._workers.get(connection, names.peer(connection))

    def row(self, one: Flowing) -> dict[str, Any]:
        """A message as the page's list shows it."""
        row = one.to_json()
        row["edges"] = [[self._named(edge) for edge in path] for path in one.paths()]
        for hop in row["hops"]:
            if hop["kind"] == "deliver":
                connection = hop["to"].partition(":")[2]
                hop["to"] = names.node("worker", self._worker(connection))
        row["workers"] = [hop["to"].partition(":")[2] for hop in row["hops"] if hop["kind"] == "deliver"]
        return row

    def details(self, one: Flowing) -> dict[str, Any]:
        """All that is known of one message."""
        properties = {name: value for name, value in one.event.properties.items() if name != "headers"}
        trace, refusal = predicted(self.facts.router, one.event)
        return {
            **self.row(one),
            "properties": shown(properties),
            "headers": shown(one.event.headers),
            "body": self._body(one.event) if self._has_bodies else None,
            "trace": [] if trace is None else trace_rows(trace),
            "deaths": shown(one.deaths),
            "refusal": refusal or None,
            "fix": fix_of(one, trace),
        }

    def _body(self, event: Event) -> str:
        """The body as text: JSON without secrets, never unpickled."""
        try:
            return json.dumps(shown(json.loads(event.body)), ensure_ascii=False)
        except (ValueError, RecursionError):
            kind = event.properties.get("content_type") or "unknown type"
            return f"{len(event.body)} bytes of {kind}"

    def unroutable(self) -> list[dict[str, Any]]:
        """What no queue took, with each binding's reason."""
        found = []
        for one in self.flow.where(lambda one: not one.queues):
            trace, _ = predicted(self.facts.router, one.event)
            reasons = [
                f"{attempt.binding.destination_type} {attempt.binding.destination}: {attempt.reason}"
                for visit in (trace.visits() if trace is not None else ())
                for attempt in visit.attempts
            ]
            found.append({**self.row(one), "reasons": reasons, "fix": fix_of(one, trace)})
        return found

    def tasks(self, task_id: str) -> dict[str, Any]:
        """The tree to which a task belongs: what it caused and what caused it."""
        mine = self.flow.where(lambda one: one.event.headers.get("id") == task_id)
        root = mine[-1].event.headers.get("root_id") or task_id if mine else task_id
        found = self.flow.where(lambda one: one.event.headers.get("root_id") == root)
        return {"root": root, "tasks": [_task(one) for one in found]}

    def attempt(self, exchange: str, key: str, headers: Mapping[str, Any]) -> dict[str, Any]:
        """Where a message would go; nothing is published."""
        try:
            trace = self.facts.router.trace(Message(exchange, key, headers))
        except TopologyError as error:
            return {"queues": [], "edges": [], "trace": [], "error": f"{error.reply_code} {error}"}
        return {"queues": list(trace.queues), "edges": ways(trace), "trace": trace_rows(trace), "error": None}


def is_machinery(event: Event) -> bool:
    """Whether a message is Celery's, RabbitMQ's or Waybill's own, and not the application's."""
    task = event.headers.get("task")
    if isinstance(task, str) and task.startswith(names.OWN_TASKS):
        return True
    return names.is_machinery(event.exchange) or (event.kind == "deliver" and names.is_machinery(event.queues[0]))


SAID = {
    "embedded": "The embedded broker's firehose: every publication and delivery.",
    "firehose": "RabbitMQ's firehose: every publication and delivery; acknowledgements aren't in it.",
}


def _task(one: Flowing) -> dict[str, Any]:
    row = one.to_json()
    delivered = next((hop.time for hop in one.hops if hop.kind == "deliver"), None)
    about = {name: row[name] for name in ("id", "task", "parent", "group", "state", "retries", "number")}
    waited = None if delivered is None else delivered - one.event.time
    return {**about, "queue": next(iter(one.queues), None), "wait": waited, "run": None}


def trace_rows(trace: Trace) -> list[dict[str, Any]]:
    """Each exchange on the way, with its bindings and their reasons."""
    return [
        {
            "exchange": visit.exchange,
            "note": visit.note,
            "bindings": [
                {
                    "to": names.node(attempt.binding.destination_type, attempt.binding.destination),
                    "key": attempt.binding.binding_key,
                    "is_match": attempt.is_match,
                    "reason": attempt.reason,
                }
                for attempt in visit.attempts
            ],
        }
        for visit in trace.visits()
    ]


def fix_of(one: Flowing, trace: Trace | None) -> str | None:
    """What to do about a message that no queue took."""
    if one.queues:
        return None
    exchange, key = one.event.exchange, one.event.keys[0] if one.event.keys else ""
    if trace is None:
        return f"declare the exchange '{exchange}' before anybody publishes to it"
    if not exchange:
        return f"declare a queue named '{key}', or publish to an exchange"
    return f"bind a queue to '{exchange}' with a key that takes '{key}', or give '{exchange}' an alternate exchange"


def shown(value: Any, name: str = "") -> Any:
    """A value for JSON, without what stands under a secret's name."""
    if any(word in name.lower() for word in SECRET):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(key): shown(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str | int | float | bool | None) else str(value)
