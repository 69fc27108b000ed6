"""What exists on the broker and isn't declared: queues and exchanges.

Left out is what Celery makes for itself (worker events, remote control, replies of the `rpc://` backend, native
delay), what RabbitMQ makes (`amq.`), and the exchanges that a declaration only names (alternates, dead letters).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from uuid import UUID

from celery.utils.nodenames import WORKER_DIRECT_QUEUE_FORMAT

from waybill.celery_app.declared import is_random
from waybill.celery_app.names import is_delayed
from waybill.diff.declared import CelerysNames, Declared
from waybill.diff.plan import OrphanExchange, OrphanQueue
from waybill.rabbitmq.management import LiveBinding
from waybill.rabbitmq.state import LiveFacts

SERVERS = "amq."
"""How the names of what RabbitMQ makes begin."""


def orphan_queues(declared: Declared, live: LiveFacts) -> Iterator[OrphanQueue]:
    """The queues that exist and that neither the application nor Celery declares."""
    consumers = Counter(consumer.queue for consumer in live.consumers)
    into: dict[str, list[LiveBinding]] = defaultdict(list)
    for one in live.bindings:
        if one.binding.destination_type == "queue":
            into[one.binding.destination].append(one)
    names = {queue.name for queue in declared.queues} | declared.awaited
    broadcast = {binding.source for binding in declared.bindings if binding.destination in declared.per_worker}
    for name, queue in live.queues.items():
        if name in names or is_celerys_queue(name, declared.names):
            continue
        sources = {one.binding.source for one in into[name]}
        is_reply, is_workers = _is_uuid(name) and not sources, is_random(name) and bool(sources & broadcast)
        if not (is_reply or is_workers):
            yield OrphanQueue(queue, live.messages.get(name) or 0, consumers[name], tuple(into[name]))


def is_celerys_queue(name: str, names: CelerysNames) -> bool:
    """Whether a queue is one of Celery's own, or of RabbitMQ's."""
    return (
        is_delayed(name)
        or name.startswith((SERVERS, f"{names.event_queues}."))
        or name.endswith(f".{names.control}.pidbox")
        or (names.has_direct and name.endswith(WORKER_DIRECT_QUEUE_FORMAT.format(hostname="")))
    )


def _is_uuid(name: str) -> bool:
    """Whether a name is a UUID and nothing else, as that of a reply queue of `rpc://`."""
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def orphan_exchanges(declared: Declared, live: LiveFacts) -> Iterator[OrphanExchange]:
    """The exchanges that exist and that neither the application, Celery nor RabbitMQ declares or names."""
    out = Counter(one.binding.source for one in live.bindings)
    known = {exchange.name for exchange in declared.exchanges} | set(_named(declared)) | {""}
    for name, exchange in live.exchanges.items():
        if name not in known and not is_celerys_exchange(name, declared.names):
            yield OrphanExchange(exchange, out[name])


def _named(declared: Declared) -> Iterator[str]:
    yield from (binding.source for binding in declared.bindings)
    for exchange in declared.exchanges:
        if exchange.alternate is not None:
            yield exchange.alternate
    for queue in declared.queues:
        if queue.dead_letter_exchange is not None:
            yield queue.dead_letter_exchange


def is_celerys_exchange(name: str, names: CelerysNames) -> bool:
    """Whether an exchange is one of Celery's own, or of RabbitMQ's."""
    control = f"{names.control}.pidbox"
    return is_delayed(name) or name.startswith(SERVERS) or name in (names.events, control, f"reply.{control}")
