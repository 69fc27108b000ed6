"""`--fix bindings`: take away the stale bindings of a plan, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from waybill.check.facts import LiveFacts
from waybill.diff.plan import Plan
from waybill.management import LiveBinding, Management


@dataclass(frozen=True, slots=True)
class Unbinding:
    """What may be unbound, and what is better left.

    Attributes:
        kept: bindings whose end would end their exchange: an auto-delete exchange goes with its last binding.
    """

    bindings: tuple[LiveBinding, ...]
    kept: tuple[LiveBinding, ...]


def unbinding(plan: Plan, live: LiveFacts) -> Unbinding:
    """The stale bindings, without those that would take an exchange with them."""
    stale = {binding.path for binding in plan.stale}
    stay = {binding.source for binding in live.bindings if binding.path not in stale}
    ends = {name for name, exchange in live.exchanges.items() if exchange.auto_delete} - stay
    return Unbinding(
        tuple(binding for binding in plan.stale if binding.source not in ends),
        tuple(binding for binding in plan.stale if binding.source in ends),
    )


def unbind(
    management: Management, bindings: tuple[LiveBinding, ...], said: Callable[[LiveBinding, bool], None]
) -> None:
    """Unbind one after the other.

    Args:
        said: called after each, with whether it was still there.

    Raises:
        BrokerUnavailable: the management API refuses, or is gone; those that were said are unbound.
    """
    for binding in bindings:
        said(binding, management.unbind(binding))
