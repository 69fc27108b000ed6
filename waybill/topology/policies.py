"""Policies: what RabbitMQ adds to exchanges and queues by their names, after rabbit_policy.erl and rabbit_policies.erl.

A policy is kept as the management API and a file of definitions write it: `name`, `pattern`, `apply-to`, `priority` and
`definition`. Measured on RabbitMQ 4.3.6:

- Of those that fit a thing the one of the highest priority applies, and that one alone; of two with one priority
  RabbitMQ says nothing, and the first counts here.
- One fits where its pattern, a regular expression, is found anywhere in the name, `apply-to` names the kind of thing,
  and a queue's type knows every setting: one with `delivery-limit` applies to no classic queue, whatever else it sets.
- An operator policy is merged into it: the smaller of two limits, otherwise the operator's.
- Exclusive and server-named queues and the `amq.` exchanges have policies, too. No declaration is compared with one.

What a thing's own arguments say beside it is decided by `Queue.setting` and `Exchange.alternate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from waybill.topology.values import Exchange, Queue, smaller_limit

Policy = Mapping[str, Any]

T = TypeVar("T", Exchange, Queue)

_OF_STREAMS = frozenset({"max-age", "stream-max-segment-size-bytes", "initial-cluster-size"})
_OF_QUORUM = frozenset(
    {"delivery-limit", "dead-letter-strategy", "max-in-memory-length", "max-in-memory-bytes", "target-group-size"}
)

UNKNOWN_TO: Mapping[str, frozenset[str]] = {
    "classic": _OF_STREAMS | _OF_QUORUM,
    "quorum": _OF_STREAMS | {"queue-mode"},
    "stream": _OF_QUORUM
    | {"message-ttl", "max-length", "expires", "overflow", "dead-letter-exchange", "dead-letter-routing-key"}
    | {"queue-mode"},
}
"""Queue type -> the settings that keep a policy from applying to it (`unsupported_policies` of each type)."""


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of one vhost.

    Args:
        given: the users' own.
        operators: those that an operator sets above them.
    """

    given: tuple[Policy, ...] = ()
    operators: tuple[Policy, ...] = ()

    def applied(self, item: T) -> T:
        """The exchange or queue with what the policies set for it."""
        if not self.given and not self.operators:
            return item
        return replace(item, policy=self.setting_for(item))

    def setting_for(self, item: Exchange | Queue) -> Mapping[str, Any]:
        """What the policies set for an exchange or a queue: the users' and the operator's, merged."""
        own = definition_of(policy_for(item, self.given))
        above = definition_of(policy_for(item, self.operators))
        return {**own, **{name: smaller_limit(name, own.get(name), value) for name, value in above.items()}}

    def who_sets(self, name: str, item: Exchange | Queue) -> str:
        """The name of the policy that sets this for the exchange or queue; empty where none does."""
        for policies in (self.operators, self.given):
            policy = policy_for(item, policies)
            if name in definition_of(policy):
                return str(policy.get("name"))
        return ""


NO_POLICIES = Policies()


def policy_for(item: Exchange | Queue, policies: Iterable[Policy]) -> Policy:
    """The policy that applies to the exchange or queue; empty where none does."""
    return max((policy for policy in policies if _fits(policy, item)), key=_priority, default={})


def definition_of(policy: Policy) -> Mapping[str, Any]:
    """What a policy sets: `message-ttl`, `consumer-timeout`, ..."""
    found = policy.get("definition")
    return found if isinstance(found, Mapping) else {}


def _priority(policy: Policy) -> int:
    given = policy.get("priority")
    return given if isinstance(given, int) else 0


def _fits(policy: Policy, item: Exchange | Queue) -> bool:
    if not isinstance(policy, Mapping) or policy.get("apply-to", "all") not in _kinds(item):
        return False
    if isinstance(item, Queue) and UNKNOWN_TO.get(item.type, frozenset()) & definition_of(policy).keys():
        return False
    try:
        return re.search(str(policy.get("pattern")), item.name) is not None
    except re.error:
        return False  # a pattern that Erlang's PCRE reads and Python doesn't: nothing is said of it


def _kinds(item: Exchange | Queue) -> tuple[str, ...]:
    if isinstance(item, Exchange):
        return ("all", "exchanges")
    return ("all", "queues", "streams" if item.type == "stream" else f"{item.type}_queues")
