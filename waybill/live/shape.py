"""What is there: publishers, exchanges, queues, workers and the ways between them, as nodes and edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from waybill.diff.declared import Declared
from waybill.live import names
from waybill.live.names import EXCHANGE, PIDBOX, PUBLISHER, QUEUE, WORKER
from waybill.rabbitmq.state import LiveFacts
from waybill.topology import DEFAULT_EXCHANGE, PREDECLARED, Binding, Exchange, Queue
from waybill.topology.fields import EMPTY

LIVE, ABSENT, UNDECLARED = "live", "absent", "undeclared"


@dataclass(frozen=True, slots=True)
class Node:
    """A publisher, an exchange, a queue or a worker.

    Attributes:
        state: `live`; `absent`, declared and not on the broker; `undeclared`, there and declared by no application.
        about: its type, in a word.
    """

    kind: str
    name: str
    state: str = LIVE
    about: str = ""

    @property
    def id(self) -> str:
        """What edges call it."""
        return names.node(self.kind, self.name)


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one node to another.

    Attributes:
        kind: `publish`, `binding`, `alternate`, `dead_letter` or `consume`.
        label: the binding key.
    """

    id: str
    source: str
    target: str
    kind: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """All nodes, and all edges between them."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()


def workers_of(facts: LiveFacts) -> dict[str, str]:
    """Connection → the Celery worker behind it.

    A worker hears remote control on a queue of its own name, by the connection with which it consumes its tasks. (With
    gevent and eventlet that is another connection: then the consumer goes by its connection's name.)
    """
    return {
        one.connection_name: one.queue.removesuffix(PIDBOX)
        for one in facts.consumers
        if one.queue.endswith(PIDBOX) and one.connection_name
    }


def shape_of(
    facts: LiveFacts,
    declared: Declared | None = None,
    published: Iterable[tuple[str, str]] = (),
    defaults: Iterable[str] = (),
    consumed: Iterable[tuple[str, str]] = (),
    workers: Mapping[str, str] = EMPTY,
) -> Shape:
    """What is there.

    Args:
        declared: by the application, where one is known.
        published: publisher and exchange of what has been published so far.
        defaults: queues that something reached by the default exchange.
        consumed: queue and connection of consumers who were seen, whether the API knows of them yet or not.
        workers: connection → worker, of those who may have gone.
    """
    made = _Making(facts, declared)
    sent = tuple(dict.fromkeys(published))
    made.add_queues()
    made.add_exchanges({exchange for _, exchange in sent})
    made.add_bindings(defaults)
    made.add_dead_letters()
    made.add_workers(consumed, {**workers, **workers_of(facts)})
    made.add_publishers(sent)
    return Shape(tuple(made.nodes.values()), tuple(made.edges.values()))


class _Making:
    """A shape while it is made."""

    def __init__(self, facts: LiveFacts, declared: Declared | None) -> None:
        self._facts = facts
        self._exchanges, self._queues = _items(facts, declared)
        bindings = (*facts.router.bindings, *(declared.bindings if declared is not None else ()))
        self._bindings = dict.fromkeys(one for one in bindings if one.source and not names.is_machinery(one.source))
        self.nodes: dict[str, Node] = {}
        self.edges: dict[str, Edge] = {}

    def _add(self, node: Node) -> str:
        return self.nodes.setdefault(node.id, node).id

    def _join(self, way: str, source: str, target: str, kind: str, label: str = "") -> None:
        if source in self.nodes and target in self.nodes:
            self.edges[way] = Edge(way, source, target, kind, label)

    def add_queues(self) -> None:
        for queue, state in self._queues.items():
            self._add(Node(QUEUE, queue.name, state, queue.type))

    def add_exchanges(self, published: set[str]) -> None:
        used = published | {one.source for one in self._bindings}
        listed = {name: one for name, one in self._exchanges.items() if name in used or name not in PREDECLARED}
        for name, (exchange, state) in listed.items():
            self._add(Node(EXCHANGE, name, state, exchange.type))
        for name, (exchange, _) in listed.items():
            if (other := exchange.alternate) is not None:
                ends = names.node(EXCHANGE, name), names.node(EXCHANGE, other)
                self._join(names.alternate(name, other), *ends, "alternate")

    def add_bindings(self, defaults: Iterable[str]) -> None:
        for name in defaults:
            source = self._add(Node(EXCHANGE, DEFAULT_EXCHANGE, LIVE, "default"))
            way = names.bound(Binding(DEFAULT_EXCHANGE, name, name))
            self._join(way, source, names.node(QUEUE, name), "binding", name)
        for one in self._bindings:
            ends = names.node(EXCHANGE, one.source), names.node(one.destination_type, one.destination)
            self._join(names.bound(one), *ends, "binding", one.binding_key)

    def add_dead_letters(self) -> None:
        for queue in self._queues:
            if (target := queue.dead_letter_exchange) is not None:
                ends = names.node(QUEUE, queue.name), names.node(EXCHANGE, target)
                self._join(names.dead_lettered(queue.name, target), *ends, "dead_letter")

    def add_workers(self, seen: Iterable[tuple[str, str]], workers: Mapping[str, str]) -> None:
        listed = [(one.queue, one.connection_name) for one in self._facts.consumers if one.connection_name]
        for queue, connection in dict.fromkeys((*listed, *sorted(seen))):
            if names.node(QUEUE, queue) in self.nodes:
                worker = workers.get(connection)
                about = "consumer" if worker is None else "Celery worker"
                worker = worker or names.peer(connection)
                target = self._add(Node(WORKER, worker, LIVE, about))
                self._join(names.consumed(queue, worker), names.node(QUEUE, queue), target, "consume")

    def add_publishers(self, published: Iterable[tuple[str, str]]) -> None:
        for publisher, exchange in published:
            source = self._add(Node(PUBLISHER, publisher))
            target = self._add(Node(EXCHANGE, exchange, LIVE, "default" if not exchange else ""))
            self._join(names.published(publisher, exchange), source, target, "publish")


def _items(facts: LiveFacts, declared: Declared | None) -> tuple[dict[str, tuple[Exchange, str]], dict[Queue, str]]:
    known = declared or Declared()
    named_exchanges, named_queues = ({one.name for one in listed} for listed in (known.exchanges, known.queues))

    def state(name: str, listed: set[str]) -> str:
        return LIVE if declared is None or name in listed or name in PREDECLARED else UNDECLARED

    exchanges: dict[str, tuple[Exchange, str]] = {
        name: (one, state(name, named_exchanges))
        for name, one in facts.exchanges.items()
        if name and not names.is_machinery(name)
    }
    queues = {one: state(name, named_queues) for name, one in facts.queues.items() if not names.is_machinery(name)}
    for exchange in known.exchanges:
        if exchange.name and not names.is_machinery(exchange.name):
            exchanges.setdefault(exchange.name, (exchange, ABSENT))
    for queue in known.queues:
        if queue.name not in facts.queues:
            queues[queue] = ABSENT
    return exchanges, queues


def counts(facts: LiveFacts) -> Mapping[str, int]:
    """Queue's node → messages in it, as the management API counts them."""
    return {names.node(QUEUE, name): count for name, count in facts.messages.items() if not names.is_machinery(name)}
