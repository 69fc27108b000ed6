"""Make a case that differs as small as it can be while it still differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tests.case import Case, Declaration
from waybill.topology import Binding, Message, Queue

T = TypeVar("T")

_CAUSES_OF_DEATH = frozenset({"x-message-ttl", "x-max-length"})
"""What brings about the deaths that a case speaks of: without these, it would say what isn't so."""


def shrink(case: Case, differs: Callable[[Case], bool]) -> Case:
    """The smallest case reached by leaving things out, one after the other, for which `differs` still
    holds."""
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in _smaller(case):
            if differs(smaller):
                case, is_smaller = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """The case with something less, the largest parts first."""
    for published in _without(case.publish):
        yield replace(case, publish=published)
    for deaths in _without(case.deaths):
        yield replace(case, deaths=deaths)
    for declared in _without(case.declare):
        left = {item.name for item in declared if isinstance(item, Queue)}
        yield replace(case, declare=declared, deaths=tuple(death for death in case.deaths if death.queue in left))
    for number, message in enumerate(case.publish):
        for lighter in _lighter_message(message):
            yield replace(case, publish=_put(case.publish, number, lighter))
    for position, item in enumerate(case.declare):
        for plainer in _plainer(item):
            yield replace(case, declare=_put(case.declare, position, plainer))


def _without(items: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """The items without a half, a quarter, ... and at last without a single one."""
    size = max(len(items) // 2, 1)
    while items and size:
        for start in range(0, len(items), size):
            yield (*items[:start], *items[start + size :])
        size //= 2


def _put(items: tuple[T, ...], position: int, item: T) -> tuple[T, ...]:
    return (*items[:position], item, *items[position + 1 :])


def _lighter_message(message: Message) -> Iterator[Message]:
    for headers in _lighter_table(message.headers):
        yield replace(message, headers=headers)
    for key in _shorter_key(message.routing_key):
        yield replace(message, routing_key=key)
    if message.priority is not None:
        yield replace(message, priority=None)
    if message.expiration is not None:
        yield replace(message, expiration=None)


def _plainer(item: Declaration) -> Iterator[Declaration]:
    if isinstance(item, Binding):
        for arguments in _lighter_table(item.arguments):
            yield replace(item, arguments=arguments)
        for key in _shorter_key(item.binding_key):
            yield replace(item, binding_key=key)
    else:
        for arguments in _lighter_table(item.arguments):
            if _CAUSES_OF_DEATH.isdisjoint(item.arguments.keys() - arguments.keys()):
                yield replace(item, arguments=arguments)


def _lighter_table(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in table:
        yield {key: value for key, value in table.items() if key != name}
    for name, value in table.items():
        if isinstance(value, list) and len(value) > 1:
            for part in _without(value):
                yield {**table, name: list(part)}


def _shorter_key(key: str) -> Iterator[str]:
    words = key.split(".")
    if key:
        yield from (".".join(part) for part in _without(words))
