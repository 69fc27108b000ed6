"""Headers exchanges: a binding's arguments against a message's headers, by type and value.

- `x-match` is `all` (the default), `any`, `all-with-x` or `any-with-x`. It is never compared itself;
  arguments that start with `x-` are compared only in the two last modes.
- A void argument asks that the header is there, with any value.
- Nothing left to compare: `all` takes every message, `any` takes none.
- A timestamp in a message is multiplied by 1000 before it is compared, in a binding it is not, and neither
  keeps its type (`routing_value` in mc_amqpl.erl): so no timestamp matches itself, and a timestamp of *t*
  seconds matches the integer 1000·t. Text and equal bytes match, so do the empty array and the empty table.
  Inside arrays and tables values keep their types, and timestamps are left alone.
- `BCC` is taken off a message before it is routed: no binding finds it. `CC` is a header like others.

The index: under `all` a binding can match only if each of its pairs is in the message, so it stands under one
of them, the one that fewest other bindings stand under; under `any` it stands under each. Candidates are then
compared as sets of pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from waybill.topology.fields import VOID, field_key, is_timestamp, seconds
from waybill.topology.values import Binding

Pair: TypeAlias = tuple[str, Hashable]

PRESENT = ("present",)
"""What a void argument asks for, as a value: every header has it beside its own."""

UNSEEN = "BCC"
"""The header that is gone before a headers exchange looks."""


class HeadersMatcher:
    """The bindings of one headers exchange."""

    reads_headers = True

    def __init__(self) -> None:
        self._all: dict[Pair, dict[Binding, frozenset[Pair]]] = {}
        self._any: dict[Pair, dict[Binding, None]] = {}
        self._always: dict[Binding, None] = {}
        self._never: dict[Binding, None] = {}
        self._anchor: dict[Binding, Pair] = {}

    def add(self, binding: Binding) -> None:
        pairs = wanted_pairs(binding.arguments)
        if wants_any(binding.arguments):
            for pair in pairs:
                self._any.setdefault(pair, {})[binding] = None
            if not pairs:
                self._never[binding] = None
        elif pairs:
            anchor = min(pairs, key=lambda pair: len(self._all.get(pair, ())))
            self._anchor[binding] = anchor
            self._all.setdefault(anchor, {})[binding] = pairs
        else:
            self._always[binding] = None

    def remove(self, binding: Binding) -> None:
        pairs = wanted_pairs(binding.arguments)
        if wants_any(binding.arguments):
            for pair in pairs:
                _drop(self._any, pair, binding)
            if not pairs:
                del self._never[binding]
        elif pairs:
            _drop(self._all, self._anchor.pop(binding), binding)
        else:
            del self._always[binding]

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> list[Binding]:  # noqa: ARG002
        given = given_pairs(headers)
        matched = list(self._always)
        for pair in given:
            candidates = self._all.get(pair)
            if candidates is not None:
                matched += [binding for binding, pairs in candidates.items() if pairs <= given]
            takers = self._any.get(pair)
            if takers is not None:
                matched += takers
        return matched

    def __iter__(self) -> Iterator[Binding]:
        yield from self._always
        yield from self._never
        yield from self._anchor
        yield from dict.fromkeys(binding for takers in self._any.values() for binding in takers)


def _drop(index: dict[Pair, dict[Binding, Any]], pair: Pair, binding: Binding) -> None:
    held = index[pair]
    del held[binding]
    if not held:
        del index[pair]


def wants_any(arguments: Mapping[str, Any]) -> bool:
    """Whether one equal pair is enough."""
    return mode_of(arguments).startswith("any")


def mode_of(arguments: Mapping[str, Any]) -> str:
    """The binding's `x-match`, `all` where none stands."""
    mode = arguments.get("x-match", "all")
    return mode if isinstance(mode, str) else "all"


def compared(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are compared with headers under the binding's mode."""
    if mode_of(arguments).endswith("-with-x"):
        return {name: value for name, value in arguments.items() if name != "x-match"}
    return {name: value for name, value in arguments.items() if not name.startswith("x-")}


def wanted_pairs(arguments: Mapping[str, Any]) -> frozenset[Pair]:
    """What a binding asks of a message's headers."""
    return frozenset((name, wanted_key(value)) for name, value in compared(arguments).items())


def wanted_key(value: Any) -> Hashable:
    """A binding's value as it is compared."""
    if value is None:
        return PRESENT
    return seconds(value) if is_timestamp(value) else _untyped_key(value)


def given_pairs(headers: Mapping[str, Any]) -> set[Pair]:
    """What a message's headers answer: every pair, and that each name is there."""
    given: set[Pair] = {(name, given_key(value)) for name, value in headers.items()}
    given.update([(name, PRESENT) for name in headers])
    if UNSEEN in headers:
        given = {pair for pair in given if pair[0] != UNSEEN}
    return given


def given_key(value: Any) -> Hashable:
    """A message's value as it is compared."""
    if value is None:
        return VOID
    return seconds(value) * 1000 if is_timestamp(value) else _untyped_key(value)


def _untyped_key(value: Any) -> Hashable:
    """As `field_key`, for a value that stands in no array or table: there the broker forgets its type."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        with suppress(UnicodeDecodeError):
            return bytes(value).decode()
    if isinstance(value, (Mapping, list, tuple)) and not value:
        return ("empty",)
    return field_key(value)
