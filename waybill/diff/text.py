"""A plan as text: `+` what would come, `!` what would fail and the ways out, `-` what is left. Pure strings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from waybill.diff.plan import Failure, Item, OrphanExchange, OrphanQueue, Plan
from waybill.rabbitmq.management import LiveBinding
from waybill.topology import Binding, Exchange
from waybill.topology.text import arguments_label, printable

CREATE, FAIL, LEFT, UNMADE = "+", "!", "-", "?"


def text(plan: Plan) -> str:
    """The whole plan, a thing a line, then the sum of it."""
    of_workers = (*_created(plan.create), *_failed(plan.failures), *_unmade(plan))
    return "\n".join(map(printable, [*of_workers, *_left(plan), summary(plan)]))


def outcome(made: Iterable[Item], failures: Iterable[Failure], last: str) -> str:
    """What came of declaring, written as a plan is; the last line is given."""
    return "\n".join(map(printable, [*_created(made), *_failed(failures), last]))


def _created(items: Iterable[Item]) -> Iterator[str]:
    yield from (f"{CREATE} {named(item)}" for item in items)


def _failed(failures: Iterable[Failure]) -> Iterator[str]:
    for failure in failures:
        yield failed(failure)
        for title, *lines in failure.remedies:
            yield f"    {title}{':' if lines else ''}"
            yield from (f"        {line}" for line in lines)


def failed(failure: Failure) -> str:
    """A failure in one line; a sentence of RabbitMQ's may have several."""
    return f"{FAIL} {named(failure.item)}: {' '.join(failure.sentence.split())}"


def _unmade(plan: Plan) -> Iterator[str]:
    for item in plan.unmade:
        yield f"{UNMADE} {named(item)}: no worker of the fleet consumes it, so none creates it; `waybill declare` does"


def _left(plan: Plan) -> Iterator[str]:
    yield from (f"{LEFT} {bound(binding)}" for binding in plan.stale)
    yield from (f"{LEFT} {_orphan(queue)}" for queue in plan.queues)
    yield from (f"{LEFT} {_alone(exchange)}" for exchange in plan.exchanges)


def named(item: Item) -> str:
    """A declaration in a few words."""
    if isinstance(item, Binding):
        kind = " (exchange)" if item.destination_type == "exchange" else ""
        return f"binding {item.source} {_asked(item)} → {item.destination}{kind}"
    kind = "exchange" if isinstance(item, Exchange) else "queue"
    flags = "".join(
        f", {word}" for word, is_so in (("transient", not item.durable), ("auto-delete", item.auto_delete)) if is_so
    )
    arguments = {name: value for name, value in item.arguments.items() if name != "x-queue-type"}
    return f"{kind} {item.name} ({item.type}{flags}){arguments_label(arguments)}"


def _asked(binding: Binding) -> str:
    return f"`{binding.binding_key}`{arguments_label(binding.arguments)}"


def bound(binding: LiveBinding) -> str:
    """A live binding in a few words."""
    return named(binding.binding)


def _orphan(orphan: OrphanQueue) -> str:
    sources = ", ".join(f"{one.binding.source} {_asked(one.binding)}" for one in orphan.bindings)
    fed = f"; bound to {sources}" if sources else ""
    return f"{named(orphan.queue)}: {_count(orphan.messages, 'message')}, {_count(orphan.consumers, 'consumer')}{fed}"


def _alone(orphan: OrphanExchange) -> str:
    return f"{named(orphan.exchange)}: {_count(orphan.bindings, 'binding')}"


def summary(plan: Plan) -> str:
    """The last line."""
    if plan.is_empty:
        return f"vhost {plan.vhost}: the declarations and the broker are the same"
    left = len(plan.stale) + len(plan.queues) + len(plan.exchanges)
    unmade = f"{len(plan.unmade)} that nobody creates, " if plan.unmade else ""
    return (
        f"vhost {plan.vhost}: {len(plan.create)} to create, {len(plan.failures)} refused, {unmade}"
        f"{left} that the application doesn't declare"
    )


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
