"""The application's declarations compared with what exists in a vhost.

    declared.py     what the workers declare when they start
    predicted.py    what the broker would answer: new, the same, refused          plan.py
    undeclared.py   what exists and isn't declared; bindings: rabbitmq/stale.py   remedies.py  text.py
    unbinding.py    which bindings `--fix bindings` may remove
    provision.py    `declare`, over AMQP

`difference` is a pure function of the two sides; `compare` asks the management API for the second, only with GET.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from celery import Celery

from waybill.celery_app.broker_url import broker_of, vhost_of
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.neighbours import neighbours
from waybill.diff.declared import Declared, declared_by
from waybill.diff.plan import Failure, Plan
from waybill.diff.predicted import answers, failure
from waybill.diff.provision import require_amqp
from waybill.diff.remedies import Place, remedies_for
from waybill.diff.undeclared import orphan_exchanges, orphan_queues
from waybill.rabbitmq.management import Management
from waybill.rabbitmq.stale import stale_bindings
from waybill.rabbitmq.state import LiveFacts, live_facts
from waybill.topology import Exchange, Queue

__all__ = ["Declared", "Failure", "Place", "Plan", "compare", "declared_by", "difference"]


def compare(
    app: Celery,
    *,
    management: str,
    vhost: str | None = None,
    fleet: Fleet | str | Path | None = None,
    others: Sequence[str] = (),
) -> Plan:
    """Compare what an application declares with what exists on its broker, as `waybill diff` does.

    The broker's management API is asked by GET only, and nothing is changed.

    Args:
        management: the URL of the management API, `http://user:password@host:15672`.
        vhost: the vhost to look at; that of the application's broker by default.
        fleet: the `docker-compose.yml` or `Procfile` of the workers: each declares only what it consumes. Without it
            somebody is taken to consume each queue.
        others: other applications of the vhost, as `celery -A` takes them.

    Returns:
        What the next worker start would create, what the broker would refuse, and what exists there that the
        application doesn't declare. `is_empty` where nothing differs; `to_json()` as `waybill diff --json` prints it.

    Raises:
        InputError: the application's broker doesn't speak AMQP, or a URL is none.
        BrokerUnavailable: the management API doesn't answer, or refuses.

    Example:
        >>> from celery import Celery
        >>> from kombu import Exchange, Queue
        >>> from waybill import compare
        >>> app = Celery("shop")
        >>> app.conf.task_queues = [Queue("usa", Exchange("news", "topic"), "usa.#")]
        >>> plan = compare(app, management=MANAGEMENT_URL)
        >>> [item.name for item in plan.create[:2]]
        ['news', 'usa']
        >>> plan.is_empty
        False
    """
    app.loader.import_default_modules()
    app.finalize()
    require_amqp(broker_of(app))
    vhost = vhost or vhost_of(app)
    beside = neighbours(others, app=app)
    if isinstance(fleet, str | Path):
        consumed = {one.name: one.consumed for one in beside}
        fleet = read_fleet(Path(fleet), app=app, others=consumed, allow_duplicate_names=True)
    declared = declared_by(app, fleet, beside)
    with Management(management, vhost) as asked:
        return difference(declared, live_facts(asked, vhost), Place(app.main or "proj", asked.address))


def difference(declared: Declared, live: LiveFacts, place: Place) -> Plan:
    """What the next worker start would create, what it would fail on, and what exists that it doesn't declare.

    Args:
        place: what the commands of the ways out name.
    """
    told = list(answers(declared, live))
    failures = [failure(item, error, live) for item, error in told if error is not None]
    return Plan(
        live.vhost,
        live.default_queue_type,
        create=tuple(item for item, error in told if error is None),
        failures=tuple(replace(one, remedies=remedies_for(one, live, place)) for one in failures),
        stale=tuple(stale_bindings(declared.exchanges, declared.shared(), declared.bindings, live.bindings)),
        queues=tuple(orphan_queues(declared, live)),
        exchanges=tuple(orphan_exchanges(declared, live)),
        unmade=tuple(_unmade(declared, live)),
    )


def _unmade(declared: Declared, live: LiveFacts) -> Iterator[Exchange | Queue]:
    """The exchanges and queues that no worker makes, and that nobody else has made either."""
    yield from (one for one in declared.exchanges if one in declared.unmade and one.name not in live.exchanges)
    yield from (one for one in declared.shared() if one in declared.unmade and one.name not in live.queues)
