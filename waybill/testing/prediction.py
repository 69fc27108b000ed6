"""What the routing engine predicts, compared with what happened.

The prediction is a trace: the queues that a publication reaches, by the declarations. What happened is a delivery. They
differ when a queue that has a consumer gave no copy or more than one, or when a copy came out of a queue that the
message should not have reached. A copy that a dead-letter exchange brought is no difference: whether a task rejects
its message is not a matter of routing, only where it goes then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from waybill.celery_app.names import BROADCAST_PREFIX
from waybill.routing import Router
from waybill.routing.walk import Trace
from waybill.testing.delivery import Delivery


def differences(
    router: Router,
    predicted: Trace,
    delivery: Delivery,
    consumers_by_worker: Mapping[str, Mapping[str, str]],
    late: Collection[str] = (),
) -> tuple[str, ...]:
    """What happened otherwise than predicted, each in a sentence; empty when all is as predicted.

    Args:
        router: the declarations that the prediction was made from.
        consumers_by_worker: node name -> queue -> exchange, as a `Watch` knows it; a queue that nobody
            consumes gives no copy.
        late: queues that were to get a copy after the publication, by an exchange that keeps its last messages.
    """
    consumed = {queue: exchange for queues in consumers_by_worker.values() for queue, exchange in queues.items()}
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
