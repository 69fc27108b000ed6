"""`--fix bindings`: which stale bindings of a plan may be taken away so that nothing else goes with them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from waybill.diff.plan import Plan
from waybill.rabbitmq.management import LiveBinding
from waybill.rabbitmq.state import LiveFacts


@dataclass(frozen=True, slots=True)
class Unbinding:
    """What may be unbound, and what is left, each with the reason."""

    bindings: tuple[LiveBinding, ...]
    left: tuple[tuple[LiveBinding, str], ...]


def unbinding(plan: Plan, live: LiveFacts) -> Unbinding:
    """The stale bindings, without those that would take an exchange with them or that can't be named."""
    stale = {binding.path for binding in plan.stale}
    stay = {one.binding.source for one in live.bindings if one.path not in stale}
    ends = {name for name, exchange in live.exchanges.items() if exchange.auto_delete} - stay
    reasons = [(binding, _reason(binding, ends)) for binding in plan.stale]
    return Unbinding(
        tuple(binding for binding, reason in reasons if reason is None),
        tuple((binding, reason) for binding, reason in reasons if reason is not None),
    )


def _reason(one: LiveBinding, ends: Collection[str]) -> str | None:
    if one.binding.source in ends:
        return f"{one.binding.source} is auto-delete, and would go with its last binding"
    if {".", ".."} & set(one.path):
        return "the management API has no address for such a name or key"
    return None
