"""check, explain and diff say the same of one application: each situation from public reports, through all three."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery.utils.nodenames import WORKER_DIRECT_EXCHANGE

from tests.support.strangers import SITUATIONS, Situation, write
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.loading import load_application
from waybill.check import Report, check, gather
from waybill.check.facts import Sent
from waybill.diff import declared_by
from waybill.errors import InputError, TopologyError
from waybill.explain import Explanation, explain_task

# Rules that say of a task that it reaches no queue, or can't be published.
UNROUTABLE = {"WB105", "WB110", "WB120", "WB122", "WB203", "WB207", "WB211"}
# Rules that say of a queue that no worker consumes it.
UNCONSUMED = {"WB111", "WB112", "WB119"}


def told(report: Report, codes: set[str]) -> set[str]:
    """What the findings of these rules are about."""
    return {name for finding in report.findings if finding.rule.code in codes for name in finding.found.objects}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_the_commands_agree(situation: Situation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write(situation, tmp_path, monkeypatch, "agreeing")
    app = load_application(name, [tmp_path])
    fleet = (
        read_fleet(tmp_path / "Procfile", app=app, name=name, allow_duplicate_names=True) if situation.fleet else None
    )
    facts = gather(app, name=name, fleet=[tmp_path / "Procfile"] if fleet else ())
    report = check(facts)
    arguments = {call.where: call for call in facts.app.calls}

    def explained(sent: Sent) -> Explanation:
        call = arguments.get(sent.where)
        args, kwargs = (call.args or (), call.kwargs or {}) if call else ((), {})
        return explain_task(app, sent.task, sent.call, fleet, args=args, kwargs=kwargs, is_foreign=True, name=name)

    for sent in facts.app.sent:
        if sent.publication is None or sent.queues is None:
            with pytest.raises((InputError, TopologyError)):
                explained(sent)
            continue
        explanation = explained(sent)
        ends = {arrival.queue.name: arrival for arrival in explanation.arrivals}
        assert set(ends) == set(sent.queues)
        assert explanation.trace.is_unroutable == (not sent.queues)
        is_direct = fleet is None and sent.published.exchange == WORKER_DIRECT_EXCHANGE.name
        if not sent.queues and not is_direct and not sent.task.startswith("celery."):
            assert sent.task in told(report, UNROUTABLE)
        for queue, arrival in ends.items():
            if arrival.consumers == () and not sent.task.startswith("celery."):
                assert queue in told(report, UNCONSUMED)
    own = fleet.of(name) if fleet else None
    unmade = {one.name for one in declared_by(app, own).unmade if hasattr(one, "name")}
    assert {queue for queue in facts.app.declared if facts.is_made_by_none(queue)} <= unmade
    if isinstance(own, Fleet) and own.is_complete:
        dropped = {queue for sent in facts.app.sent for queue in sent.queues or () if queue in unmade}
        declares = {one.name for sent in facts.app.publications() for one in sent.published.declares}
        assert dropped <= declares | told(report, {"WB210", "WB211", *UNCONSUMED})
