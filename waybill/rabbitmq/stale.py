"""Which bindings of a broker are stale: they lead into what is declared, and no declaration makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from waybill.celery_app.installed import DELAYED_DELIVERY_EXCHANGE
from waybill.celery_app.names import is_delayed
from waybill.rabbitmq.management import LiveBinding
from waybill.topology import Binding, Exchange, Queue
from waybill.topology.fields import is_plain


def stale_bindings(
    exchanges: Iterable[Exchange], queues: Iterable[Queue], bindings: Iterable[Binding], live: Iterable[LiveBinding]
) -> Iterator[LiveBinding]:
    """The bindings on the broker into declared queues and exchanges that no declaration makes.

    Args:
        queues: those that every worker declares, under one name.
        bindings: all that are declared.
    """
    known = set(bindings)
    alike = {likeness(binding) for binding in known if not is_told_by_json(binding.arguments)}
    ours = {("queue", queue.name) for queue in queues}
    ours |= {("exchange", exchange.name) for exchange in exchanges if not is_delayed(exchange.name)}
    delayed = frozenset(_delayed(known))
    for one in live:
        binding = one.binding
        if (binding.destination_type, binding.destination) not in ours or binding in known:
            continue
        if likeness(binding) not in alike and binding not in delayed:
            yield one


def _delayed(declared: Iterable[Binding]) -> Iterator[Binding]:
    """The bindings that Celery's native delay makes for those that are declared, be it for another application."""
    for binding in declared:
        key = f"#.{binding.binding_key}"
        yield Binding(DELAYED_DELIVERY_EXCHANGE, binding.source, key, destination_type="exchange")
        yield Binding(binding.source, binding.destination, key, destination_type=binding.destination_type)


def likeness(binding: Binding) -> tuple[object, ...]:
    """What two bindings have in common that JSON cannot tell apart.

    The management API writes timestamps as numbers and bytes as text. A declared binding with such an argument is
    recognized by the arguments' names.
    """
    ends = (binding.source, binding.destination_type, binding.destination, binding.binding_key)
    return (*ends, frozenset(binding.arguments))


def is_told_by_json(arguments: Mapping[str, Any]) -> bool:
    """Whether the management API can tell these arguments as they are."""
    return all(is_plain(value) for value in arguments.values())
