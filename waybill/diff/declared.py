"""What an application's workers declare at their start, and the names of what Celery declares beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from celery import Celery

from waybill.celery_app.declared import record, stable
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.neighbours import Neighbour, declared_by_fleet
from waybill.celery_app.options import no_new_queues
from waybill.topology import Binding, Exchange, Queue


@dataclass(frozen=True, slots=True)
class CelerysNames:
    """What the application's settings call the things that Celery makes for itself.

    Attributes:
        events, event_queues: the exchange of worker events, and what the names of its queues begin with.
        control: what the exchanges and queues of remote control are named after.
        has_direct: each worker has a queue of its own, `<node name>.dq2`.
    """

    events: str = "celeryev"
    event_queues: str = "celeryev"
    control: str = "celery"
    has_direct: bool = False


@dataclass(frozen=True, slots=True)
class Declared:
    """The declarations of one application, in Celery's order, checked by nobody yet.

    Attributes:
        awaited: queues with `no_declare`: a worker consumes them and declares nothing.
        per_worker: `Broadcast` queues, of which each worker makes one under a name of its own; here `bcast.<alias>`.
        unmade: what stands in the application and no worker of the fleet declares, since none consumes it.
    """

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    awaited: frozenset[str] = frozenset()
    per_worker: frozenset[str] = frozenset()
    names: CelerysNames = CelerysNames()
    unmade: frozenset[Exchange | Queue | Binding] = frozenset()

    def beside(self, other: Neighbour, made: Neighbour) -> Declared:
        """This with what another application declares.

        Args:
            made: what of it a worker makes.
        """
        own = [one for one in (*self.exchanges, *self.queues, *self.bindings) if one not in self.unmade]
        theirs: set[Exchange | Queue | Binding] = {*other.exchanges, *other.queues, *other.bindings}
        return replace(
            self,
            exchanges=tuple(dict.fromkeys([*self.exchanges, *other.exchanges])),
            queues=tuple(dict.fromkeys([*self.queues, *other.queues])),
            bindings=tuple(dict.fromkeys([*self.bindings, *other.bindings])),
            unmade=frozenset((self.unmade | theirs).difference(own, made.exchanges, made.queues, made.bindings)),
        )

    def shared(self) -> tuple[Queue, ...]:
        """The queues that every worker declares, under one name."""
        left_out = self.awaited | self.per_worker
        return tuple(queue for queue in self.queues if queue.name not in left_out)


def declared_by(app: Celery, fleet: Fleet | None = None, others: Iterable[Neighbour] = ()) -> Declared:
    """What the application's workers declare; nobody is connected to.

    Args:
        fleet: the workers; without it somebody is taken to consume each queue.
        others: other applications of the vhost, whose workers declare as well.
    """
    with no_new_queues(app):
        recorder = record(app)
        made = recorder if fleet is None else record(app, fleet)
        queues = list(app.amqp.queues.values())
    every: set[Exchange | Queue | Binding] = {*recorder.exchanges, *recorder.queues, *recorder.bindings}
    conf = app.conf
    declared = Declared(
        tuple(dict.fromkeys([*recorder.exchanges, *made.exchanges])),
        tuple(dict.fromkeys([*recorder.queues, *made.queues])),
        tuple(dict.fromkeys([*recorder.bindings, *made.bindings])),
        awaited=frozenset(queue.name for queue in queues if queue.no_declare),
        per_worker=frozenset(one.name for queue in queues if (one := stable(queue)) is not queue),
        names=CelerysNames(
            conf.event_exchange, conf.event_queue_prefix, conf.control_exchange or "celery", conf.worker_direct
        ),
        unmade=frozenset(every.difference(made.exchanges, made.queues, made.bindings)),
    )
    for other in others:
        declared = declared.beside(other, declared_by_fleet(other, fleet))
    return declared
