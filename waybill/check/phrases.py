"""Sentences that several rules have in common."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from waybill.celery_app.options import Option
from waybill.check.facts import Facts, Sent

CLOSE = 0.75
"""How alike two names must be, of 1, for one to be taken for a misspelling of the other."""


def nearest(name: str, known: Iterable[str], cutoff: float = CLOSE) -> str | None:
    """The name that was probably meant."""
    found = get_close_matches(name, sorted(set(known) - {name}), n=1, cutoff=cutoff)
    return found[0] if found else None


def exchange(name: str) -> str:
    """An exchange in a sentence; the default exchange has no name."""
    return f"`{name}`" if name else "the default exchange"


def all_of(names: Iterable[str]) -> str:
    """Names in a sentence."""
    return ", ".join(f"`{name}`" for name in names) or "no queue"


def published(sent: Sent) -> str:
    """Where Celery publishes it."""
    to = sent.published
    return f"published to {exchange(to.exchange)} with the routing key `{to.routing_key}`"


def said(option: Option) -> str:
    """An option with who set it."""
    return f"{option.name}={option.value!r} from {option.source}"


def unread(facts: Facts) -> str:
    """Who may consume a queue of which no consumer is known, as the end of a sentence; empty for nobody."""
    not_read = facts.fleet.not_read if facts.fleet else ""
    return f"; perhaps one that couldn't be read does: {not_read}" if not_read else ""
