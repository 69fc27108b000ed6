"""Leave out of a case what older RabbitMQs are known to do otherwise, to find what else they do otherwise.

What is left out is the list of differences in docs/explanation/router.md, as far as it concerns generated cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from tests.support.cases.case import Case, Declaration
from waybill.topology import Binding, Message

DEATH_NAMES = ("x-first-death-", "x-last-death-", "x-death")


def as_in_4_0(case: Case) -> Case:
    """The case without bindings that RabbitMQ takes up to 4.3.4."""
    return replace(case, declare=tuple(item for item in case.declare if not _has_many_hashes(item)))


def as_in_3_10(case: Case) -> Case:
    """As `as_in_4_0`, and without the arguments and headers that 3.10 compares otherwise."""
    declare = tuple(map(_plain_binding, as_in_4_0(case).declare))
    return replace(case, declare=declare, publish=tuple(map(_plain_message, case.publish)))


OLDER = {"4.0": as_in_4_0, "3.10": as_in_3_10}
"""By the version that a broker is held to."""


def _has_many_hashes(item: Declaration) -> bool:
    return isinstance(item, Binding) and item.binding_key.split(".").count("#") > 2


def _plain_binding(item: Declaration) -> Declaration:
    """3.10 shows a headers exchange other traces of dead letters, and hides CC after a dead-letter key."""
    if not isinstance(item, Binding):
        return item
    kept = {name: value for name, value in item.arguments.items() if name != "CC" and not name.startswith(DEATH_NAMES)}
    return replace(item, arguments=_plain_table(kept))


def _plain_message(message: Message) -> Message:
    return replace(message, headers=_plain_table(message.headers))


def _plain_table(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if not _is_compared_otherwise(value)}


def _is_compared_otherwise(value: Any) -> bool:
    """3.10 compares with Erlang's `==`, 1 being 1.0, and leaves timestamps as they are."""
    if isinstance(value, list):
        return any(map(_is_compared_otherwise, value))
    if isinstance(value, dict):
        return any(map(_is_compared_otherwise, value.values()))
    return isinstance(value, float | datetime)
