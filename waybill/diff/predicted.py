"""What RabbitMQ would answer to each declaration, one after the other, in a vhost in which other things exist already.

The rules and sentences are those of `waybill.topology`. What is added is what depends on the broker: exchange types
of plugins, deprecated features that it denies, and queues that belong to another connection. A policy changes no
answer: RabbitMQ compares declarations with declarations. The order of checks is rabbit_channel.erl's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from waybill.diff.declared import Declared
from waybill.diff.plan import Failure, Item
from waybill.errors import TopologyError
from waybill.rabbitmq.stale import is_told_by_json, likeness
from waybill.rabbitmq.state import LiveFacts
from waybill.topology import Binding, Exchange, Queue
from waybill.topology.declarations import Declarations
from waybill.topology.equivalence import LOCKED

TRANSIENT = "transient_nonexcl_queues"

Answer = tuple[Item, TopologyError | None]
"""A declaration that changes something, or the refusal."""


def answers(declared: Declared, live: LiveFacts) -> Iterator[Answer]:
    """What would be new, and what refused; what is there already as it is declared is passed over."""
    held = live.declarations()
    refused: set[tuple[str, str]] = set()
    for exchange in declared.exchanges:
        if exchange in declared.unmade:
            continue
        yield from _answer(exchange, held.declare_exchange, refused)
    for queue in declared.shared():
        if queue in declared.unmade:
            continue
        for item, error in _answer(queue, lambda one: _queue(held, live, one), refused):
            yield (item if error else held.queues[queue.name]), error
    for name in sorted(declared.awaited - live.queues.keys()):
        yield Queue(name), TopologyError(404, f"no {held.named('queue', name)}")
    yield from _bindings(declared, live, held, refused)


def _answer(item: Any, declare: Callable[[Any], bool], refused: set[tuple[str, str]]) -> Iterator[Answer]:
    try:
        if declare(item):
            yield item, None
    except TopologyError as error:
        refused.add((_kind(item), item.name))
        yield item, error


def _kind(item: Exchange | Queue) -> str:
    return "exchange" if isinstance(item, Exchange) else "queue"


def _queue(held: Declarations, live: LiveFacts, queue: Queue) -> bool:
    lives = live.queues.get(queue.name)
    if lives is not None and lives.exclusive:
        raise TopologyError(405, LOCKED.format(held.named("queue", queue.name)))
    if lives is None and TRANSIENT in live.denied and not queue.durable and not queue.exclusive:
        raise TopologyError(541, f"Feature `{TRANSIENT}` is deprecated.")
    return held.declare_queue(queue)


def _bindings(
    declared: Declared, live: LiveFacts, held: Declarations, refused: set[tuple[str, str]]
) -> Iterator[Answer]:
    """A worker doesn't come to the bindings of what is refused, and those of `Broadcast` queues it makes each time."""
    known = {one.binding for one in live.bindings}
    untold = {likeness(binding) for binding in declared.bindings if not is_told_by_json(binding.arguments)}
    alike = untold & {likeness(binding) for binding in known} if untold else untold
    for binding in declared.bindings:
        ends = {("exchange", binding.source), (binding.destination_type, binding.destination)}
        if ends & refused or binding in known or binding.destination in declared.per_worker:
            continue
        if binding in declared.unmade:
            continue
        if alike and likeness(binding) in alike:
            continue
        yield binding, held.refusal(binding)


def failure(item: Item, error: TopologyError, live: LiveFacts) -> Failure:
    """The refusal with the two values that differ."""
    mine, theirs = _values(item, error.argument, live) if error.argument else (None, None)
    return Failure(item, error.reply_code, error.text, error.argument, mine, theirs)


def _values(item: Item, argument: str, live: LiveFacts) -> tuple[Any, Any]:
    assert not isinstance(item, Binding)
    lives = live.exchanges.get(item.name) if isinstance(item, Exchange) else live.queues.get(item.name)
    default = live.default_queue_type if isinstance(item, Queue) and item.durable else "classic"
    return _value(item, argument, default), _value(lives, argument, "classic")


def _value(item: Item | None, argument: str, default_type: str) -> Any:
    if argument in ("type", "durable", "auto_delete", "internal"):
        return getattr(item, argument, None)
    given = getattr(item, "arguments", {})
    return given.get(argument, default_type if argument == "x-queue-type" else None)
