"""Make a case that differs as small as it can be while it still differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tests.support.cases.case import Case, Declaration
from waybill.topology import Binding, Message, Queue

T = TypeVar("T")

Differs = Callable[[Case], bool]

_CAUSES_OF_DEATH = frozenset({"x-message-ttl", "x-max-length", "x-dead-letter-exchange"})
"""What brings about the deaths that a case speaks of; the one without the other would be no true case."""


def shrink(case: Case, differs: Differs) -> Case:
    """The smallest case, reached by leaving things out one by one, for which `differs` still holds."""
    while True:
        smaller = case
        for step in STEPS:
            smaller = step(smaller, differs)
        if smaller == case:
            return case
        case = smaller


def _fewer_messages(case: Case, differs: Differs) -> Case:
    return replace(case, publish=_fewest(case.publish, lambda left: differs(replace(case, publish=left))))


def _fewer_deaths(case: Case, differs: Differs) -> Case:
    """Those on arrival stay as long as their queue does: it is declared so that they happen."""
    on_arrival = {death for death in case.deaths if death.is_on_arrival}
    deaths = _fewest(case.deaths, lambda left: on_arrival.issubset(left) and differs(replace(case, deaths=left)))
    return replace(case, deaths=deaths)


def _fewer_declarations(case: Case, differs: Differs) -> Case:
    declared = _fewest(case.declare, lambda left: differs(_declaring(case, left)))
    return _declaring(case, declared)


def _declaring(case: Case, declared: tuple[Declaration, ...]) -> Case:
    queues = {item.name for item in declared if isinstance(item, Queue)}
    return replace(case, declare=declared, deaths=tuple(death for death in case.deaths if death.queue in queues))


def _lighter_messages(case: Case, differs: Differs) -> Case:
    lightest = _lightest(case.publish, _lighter_message, lambda put: differs(replace(case, publish=put)))
    return replace(case, publish=lightest)


def _plainer_declarations(case: Case, differs: Differs) -> Case:
    plainest = _lightest(case.declare, _plainer, lambda put: differs(replace(case, declare=put)))
    return replace(case, declare=plainest)


STEPS = (_fewer_messages, _fewer_deaths, _fewer_declarations, _lighter_messages, _plainer_declarations)


def _fewest(items: tuple[T, ...], still_differs: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """Leave out halves, quarters, ... and at last single items, as long as it differs."""
    size = max(len(items) // 2, 1)
    while items and size:
        start = 0
        while start < len(items):
            left = (*items[:start], *items[start + size :])
            if still_differs(left):
                items = left
            else:
                start += size
        size //= 2
    return items


def _lightest(
    items: tuple[T, ...],
    lighter: Callable[[T], Iterator[T]],
    still_differs: Callable[[tuple[T, ...]], bool],
) -> tuple[T, ...]:
    """Put something lighter in the place of each item, as long as it differs."""
    for position, item in enumerate(items):
        for light in lighter(item):
            put = (*items[:position], light, *items[position + 1 :])
            if light != item and still_differs(put):
                items = put
                break
    return items


def _lighter_message(message: Message) -> Iterator[Message]:
    yield replace(message, headers={}, priority=None, expiration=None)
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
        for key in _shorter_key(item.binding_key):
            yield replace(item, binding_key=key)
    for arguments in _lighter_table(item.arguments):
        if _CAUSES_OF_DEATH.isdisjoint(item.arguments.keys() - arguments.keys()):
            yield replace(item, arguments=arguments)


def _lighter_table(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in table:
        yield {key: value for key, value in table.items() if key != name}
    for name, value in table.items():
        if isinstance(value, list):
            for left_out in range(len(value)):
                yield {**table, name: [*value[:left_out], *value[left_out + 1 :]]}


def _shorter_key(key: str) -> Iterator[str]:
    words = key.split(".")
    if key:
        yield ""
        yield from (".".join(words[:left_out] + words[left_out + 1 :]) for left_out in range(len(words)))
