"""What the routing engine says beforehand, held against what happened.

The prediction is a trace: the queues that a publication reaches, by the declarations. What happened is a delivery. They
differ when a queue that has a consumer gave no copy or more than one, or when a copy came out of a queue that the
message should not have reached. A copy that a dead-letter exchange brought is no difference: whether a task rejects
its message is not a matter of routing, only where it goes then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from waybill.delivery import Delivery
from waybill.fleet import BROADCAST_PREFIX
from waybill.publication import Publication
from waybill.routing import Router
from waybill.routing.tracing import Trace
from waybill.topology import Message

# The exchanges and queues of Celery's native delayed delivery: `celery_delayed_27` down to `celery_delayed_0`, then the
# exchange `celery_delayed_delivery`.
DELAYED_PREFIX = "celery_delayed_"


def is_delayed(name: str) -> bool:
    """Whether an exchange or queue is one of those of Celery's native delayed delivery."""
    return name.startswith(DELAYED_PREFIX)


def message_of(sent: Publication) -> Message:
    """What of a publication decides where it goes."""
    # Celery gives seconds; on the wire it's milliseconds as text.
    expiration = None if sent.expiration is None else str(int(sent.expiration * 1000))
    return Message(sent.exchange, sent.routing_key, sent.headers, sent.priority, expiration)


def differences(
    router: Router,
    predicted: Trace,
    delivery: Delivery,
    crew: Mapping[str, Mapping[str, str]],
    late: Collection[str] = (),
) -> tuple[str, ...]:
    """What happened otherwise than predicted, each in a sentence; empty when all is as predicted.

    Args:
        router: the declarations that the prediction was made from.
        crew: node name -> queue -> exchange, as a `Watch` knows it; a queue that nobody consumes gives no copy.
        late: queues that were to get a copy after the publication, by an exchange that keeps its last messages.
    """
    consumed = {queue: exchange for queues in crew.values() for queue, exchange in queues.items()}
    expected = {live for queue in predicted.queues for live in _live(queue, router, consumed)} | set(late)
    dead = {
        queue for name in predicted.queues for queue in router.dead_letters(name, predicted.message, "rejected").queues
    }
    copies = Counter(receipt.queue for receipt in delivery.received)
    found = [f"a copy from {queue}" for queue in sorted(copies.keys() - expected - dead)]
    # A Broadcast has a queue only while a worker consumes it: without one it reaches nobody.
    if delivery.publication.is_returned == bool(expected):
        found.append("returned" if delivery.publication.is_returned else "not returned")
    if predicted.is_certain:
        found += [
            f"{copies[queue]} copies from {queue}" for queue in sorted(expected & consumed.keys()) if copies[queue] != 1
        ]
    elif expected <= consumed.keys() and copies.total() != 1:
        found.append(f"{copies.total()} copies")
    return tuple(found)


def _live(queue: str, router: Router, consumed: Mapping[str, str]) -> set[str]:
    """The queues that stand for a declared one: a Broadcast has one for each worker, named at random."""
    if not queue.startswith(BROADCAST_PREFIX):
        return {queue}
    exchanges = {binding.source for binding in router.bindings_to(queue)}
    return {live for live, exchange in consumed.items() if live.startswith(BROADCAST_PREFIX) and exchange in exchanges}
