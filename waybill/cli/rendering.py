"""Trees and maps as text: pure functions from values to strings.

A tree is built of `Node`s and then drawn, so a terminal, a file and a test see the same. `✓` and `✗` say what the
colours of a terminal say; a node carries its style.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from waybill.explain import Arrival, Explanation
from waybill.routing.dead_letters import DeadLettering
from waybill.routing.walk import Trace, Visit
from waybill.topology import DEFAULT_EXCHANGE, Binding, Topology
from waybill.topology.declarations import effective_type
from waybill.topology.text import arguments_label, binding_label, exchange_name, printable

YES, NO = "✓", "✗"
MATCHED, MISSED = "green", "dim"
# Bindings that did not match are drawn up to this many; an exchange may have thousands. `--json` gives all.
MAX_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Node:
    """A line of a tree, and the lines below it.

    Attributes:
        text: may hold names as they are; they are escaped when the tree is drawn.
        style: a terminal's colour, as Rich names it; empty for none.
    """

    text: str
    children: tuple[Node, ...] = ()
    style: str = ""


def tree(node: Node) -> str:
    """The tree, drawn with lines."""
    return "\n".join(line for line, _ in styled_lines(node))


def styled_lines(node: Node) -> Iterator[tuple[str, str]]:
    """The lines of the tree, each with its style."""
    yield printable(node.text), node.style
    yield from _branches(node.children, "")


def _branches(children: tuple[Node, ...], indent: str) -> Iterator[tuple[str, str]]:
    for number, child in enumerate(children, 1):
        is_last = number == len(children)
        yield f"{indent}{'└── ' if is_last else '├── '}{printable(child.text)}", child.style
        yield from _branches(child.children, indent + ("    " if is_last else "│   "))


def trace_node(trace: Trace, notes: Mapping[str, Iterable[Node]] | None = None) -> Node:
    """The way of a message: each exchange, each binding tried there, and why it took the message or not.

    Args:
        notes: what to hang below a queue that the message reaches, such as its workers.
    """
    return _visit_node(trace.root, notes or {})


def _visit_node(visit: Visit, notes: Mapping[str, Iterable[Node]]) -> Node:
    taken = [
        Node(
            f"{YES} {attempt.binding.destination}  {binding_label(attempt.binding, visit.type)}  {attempt.reason}",
            tuple(notes.get(attempt.binding.destination, ())),
            MATCHED,
        )
        for attempt in visit.matched
        if attempt.binding.destination_type == "queue"
    ]
    onward = [_visit_node(ahead, notes) for ahead in visit.onward]
    refused = [attempt for attempt in visit.attempts if not attempt.is_match]
    missed = [
        Node(
            f"{NO} {attempt.binding.destination}  {binding_label(attempt.binding, visit.type)}  {attempt.reason}",
            style=MISSED,
        )
        for attempt in refused[:MAX_SHOWN]
    ]
    if len(refused) > MAX_SHOWN:
        missed.append(Node(f"{NO} and {len(refused) - MAX_SHOWN} bindings more that don't match", style=MISSED))
    kind = f" ({visit.type})" if visit.type and visit.exchange != DEFAULT_EXCHANGE else ""
    note = f": {visit.note}" if visit.note else ""
    return Node(f"{exchange_name(visit.exchange)}{kind} — {visit.reached_by}{note}", (*taken, *onward, *missed))


def explanation_node(explanation: Explanation) -> Node:
    """One task all the way: options, publication, route, queues, workers."""
    sent = explanation.publication
    width = max(len(option.name) for option in explanation.options)
    options = tuple(
        Node(f"{option.name:<{width}}  {option.value}  from {option.source}") for option in explanation.options
    )
    arrivals = {arrival.queue.name: tuple(_arrival_nodes(arrival)) for arrival in explanation.arrivals}
    published = f"published to {exchange_name(sent.exchange)} with the routing key `{sent.routing_key}`"
    # Of a native delay the last exchange tells where the task goes; the 27 before it only keep it waiting.
    way = explanation.delivered or explanation.trace
    return Node(
        sent.task,
        (
            Node("options", options),
            Node(published, tuple(Node(remark) for remark in explanation.remarks)),
            trace_node(way, arrivals),
        ),
    )


def _arrival_nodes(arrival: Arrival) -> Iterable[Node]:
    if arrival.consumers:
        yield Node(f"consumed by {', '.join(arrival.consumers)}")
    elif arrival.consumers is not None:
        yield Node(f"{NO} no worker consumes it: the message waits here", style=MISSED)
    yield from (Node(note) for note in arrival.notes)
    yield from (dead_letter_node(letter, arrival) for letter in arrival.unconsumed if letter.exchange is not None)


def dead_letter_node(letter: DeadLettering, arrival: Arrival, seen: frozenset[str] = frozenset()) -> Node:
    """Where a message goes when it leaves a queue unconsumed, and what becomes of it there.

    Args:
        seen: the dead-letter queues above, which are told there.
    """
    where = ", ".join(letter.queues) or letter.note
    seen |= {letter.queue}
    onward = tuple(dead_letter_node(one, arrival, seen) for one in letter.onward)
    below = [node for name in letter.queues for node in _resting_nodes(name, arrival, seen)]
    return Node(f"when {letter.reason}: {where}", (*below, *onward))


def _resting_nodes(queue: str, arrival: Arrival, seen: frozenset[str]) -> Iterator[Node]:
    """Who consumes a dead-letter queue, and where it goes from there."""
    workers = arrival.resting.get(queue)
    if workers:
        yield Node(f"{queue} is consumed by {', '.join(workers)}")
    elif workers is not None:
        yield Node(f"no worker consumes {queue}: it stays there")
    if queue not in seen:
        yield from (dead_letter_node(one, arrival, seen) for one in arrival.again if one.queue == queue)


def topology_node(topology: Topology, workers: Mapping[str, Iterable[str]] | None = None) -> Node:
    """Everything that is declared: each exchange with its bindings.

    Args:
        workers: queue -> the workers that consume it.
    """
    return Node(
        f"vhost {topology.vhost}",
        tuple(
            Node(
                f"{exchange.name} ({exchange.type}){arguments_label(exchange.arguments)}",
                tuple(
                    Node(_binding_line(binding, topology, workers or {}))
                    for binding in topology.bindings_from(exchange.name)
                ),
            )
            for exchange in topology.exchanges
        ),
    )


def _binding_line(binding: Binding, topology: Topology, workers: Mapping[str, Iterable[str]]) -> str:
    line = f"{binding_label(binding, _source_type(binding, topology))} → {binding.destination}"
    if binding.destination_type == "exchange":
        return f"{line} (exchange)"
    queue = topology.queue(binding.destination)
    consumers = ", ".join(workers.get(binding.destination, ()))
    return f"{line}{arguments_label(queue.arguments if queue else {})}{f'  ⇒ {consumers}' if consumers else ''}"


def _source_type(binding: Binding, topology: Topology) -> str:
    source = topology.exchange(binding.source)
    return "" if source is None else effective_type(source)


def mermaid(topology: Topology, workers: Mapping[str, Iterable[str]] | None = None) -> str:
    """The topology as a Mermaid flowchart: exchanges as hexagons, queues as boxes, workers as rounded boxes.

    Dotted lines lead to alternate and dead-letter exchanges.
    """
    lines = ["flowchart LR"]
    for exchange in topology.exchanges:
        lines.append(f'    {_id("x", exchange.name)}{{{{"{_text(exchange.name)}<br/>{_text(exchange.type)}"}}}}')
    for queue in topology.queues:
        lines.append(f'    {_id("q", queue.name)}["{_text(queue.name)}"]')
    for binding in topology.bindings:
        prefix = "x" if binding.destination_type == "exchange" else "q"
        label = binding_label(binding, _source_type(binding, topology))
        label = _text(label[1:-1] if label.startswith("`") else label) or " "
        lines.append(f'    {_id("x", binding.source)} -- "{label}" --> {_id(prefix, binding.destination)}')
    for exchange in topology.exchanges:
        if exchange.alternate:
            lines.append(f'    {_id("x", exchange.name)} -. "alternate" .-> {_id("x", exchange.alternate)}')
    for queue in topology.queues:
        if queue.dead_letter_exchange:
            lines.append(f'    {_id("q", queue.name)} -. "dead letters" .-> {_id("x", queue.dead_letter_exchange)}')
    for queue_name, consumers in (workers or {}).items():
        for worker in consumers:
            lines.append(f'    {_id("q", queue_name)} ==> {_id("w", worker)}(["{_text(worker)}"])')
    return "\n".join(lines) + "\n"


def _id(prefix: str, name: str) -> str:
    """A Mermaid node's id: letters, digits and `_`; other characters by their number, so that no two meet."""
    return prefix + "_" + re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", name)


# What ends Mermaid's quotes, or is HTML, Markdown, a directive (`%%{`), a line break (`\n`) or an entity within them.
_MERMAID = re.compile(r"[&\"<>`\\%]|#(?=\w+;)")
_ENTITIES = {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "`": "#96;", "\\": "#92;", "%": "#37;"}


def _text(text: str) -> str:
    """Text within Mermaid's quotes."""
    return _MERMAID.sub(lambda found: _ENTITIES[found[0]], printable(text))
