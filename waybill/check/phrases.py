"""Sentences that several rules have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

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


def with_confirms(facts: Facts) -> str:
    """The setting for confirms, beside what the setting has already."""
    if facts.app.conf.broker_transport_options:
        return '"confirm_publish": True in app.conf.broker_transport_options'
    return 'app.conf.broker_transport_options = {"confirm_publish": True}'


def routing(facts: Facts, task: str, options: Mapping[str, Any]) -> str:
    """The entry of `task_routes` for a task, beside those that are there already."""
    entry = f"{{{task!r}: {dict(options)!r}}}"
    return f"{entry} in app.conf.task_routes" if facts.app.conf.task_routes else f"app.conf.task_routes = {entry}"


def consuming(facts: Facts, queue: str) -> str:
    """The command of a worker that consumes a queue as well: the first of the application's own, where there is one."""
    workers = facts.fleet.fleet.of(facts.called or None) if facts.fleet else None
    if workers is None or not workers.workers:
        return f"celery -A proj worker -Q {queue}"
    first = workers.workers[0]
    return f"celery -A proj worker -n {first.node_name} -Q {','.join((*first.queues, queue))}"


def unread(facts: Facts) -> str:
    """Who may consume a queue of which no consumer is known, as the end of a sentence; empty for nobody."""
    not_read = facts.fleet.not_read if facts.fleet else ""
    return f"; perhaps one that couldn't be read does: {not_read}" if not_read else ""
