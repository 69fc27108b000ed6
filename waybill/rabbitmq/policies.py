"""Policies, as the management API tells them: which of them RabbitMQ applies to a queue (rabbit_policy.erl)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from waybill.topology import Queue

Policy = Mapping[str, Any]


def policy_for(queue: Queue, policies: Iterable[Policy]) -> Policy:
    """The policy that applies to the queue; empty where none does.

    Of several that fit RabbitMQ applies the one of the highest priority, and that one alone.
    """
    return max((policy for policy in policies if _fits(policy, queue)), key=_priority, default={})


def definition_of(policy: Policy) -> Mapping[str, Any]:
    """What a policy sets: `message-ttl`, `consumer-timeout`, ..."""
    found = policy.get("definition")
    return found if isinstance(found, Mapping) else {}


def _priority(policy: Policy) -> int:
    given = policy.get("priority")
    return given if isinstance(given, int) else 0


def _fits(policy: Policy, queue: Queue) -> bool:
    kinds = ("all", "queues", "streams" if queue.type == "stream" else f"{queue.type}_queues")
    if not isinstance(policy, Mapping) or policy.get("apply-to", "all") not in kinds:
        return False
    try:
        return re.search(str(policy.get("pattern")), queue.name) is not None
    except re.error:
        return False  # a pattern that Erlang's PCRE reads and Python doesn't: nothing is said of it
