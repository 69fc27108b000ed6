"""What an application declares, held against what lives in a vhost.

    declared.py     what the workers declare at their start
    predicted.py    what the broker would answer: new, the same, refused        plan.py
    undeclared.py   what lives and isn't declared; of bindings: check/stale.py  ways_out.py  text.py
    unbinding.py    which bindings `--fix bindings` may take away
    declaring.py    `declare`, over AMQP

`difference` is a pure function of the two sides; `waybill.check.live` asks the management API, and only with GET.
"""

from __future__ import annotations

from dataclasses import replace

from waybill.check.facts import LiveFacts
from waybill.check.stale import stale_bindings
from waybill.diff.declared import Declared, declared_by
from waybill.diff.plan import Failure, Plan
from waybill.diff.predicted import answers, failure
from waybill.diff.undeclared import orphan_exchanges, orphan_queues
from waybill.diff.ways_out import Place, ways_out

__all__ = ["Declared", "Failure", "Place", "Plan", "declared_by", "difference"]


def difference(declared: Declared, live: LiveFacts, place: Place) -> Plan:
    """What the next worker start would create, what it would fail on, and what lives that it doesn't declare.

    Args:
        place: what the commands of the ways out name.
    """
    told = list(answers(declared, live))
    failures = [failure(item, error, live) for item, error in told if error is not None]
    return Plan(
        live.vhost,
        live.default_queue_type,
        create=tuple(item for item, error in told if error is None),
        failures=tuple(replace(one, ways_out=ways_out(one, live, place)) for one in failures),
        stale=tuple(stale_bindings(declared.exchanges, declared.shared(), declared.bindings, live.bindings)),
        queues=tuple(orphan_queues(declared, live)),
        exchanges=tuple(orphan_exchanges(declared, live)),
    )
