"""Consistent-hash exchanges: a message goes to one destination, chosen by the hash of its key or of a header.

- Each destination has as many buckets as the number in its binding key says. They lie in a row, in the order
  in which the destinations were bound; a destination that is bound again, with whatever key, keeps what it
  has, and one that is unbound, from whichever key, loses all, and those behind it move up.
- What is hashed is the routing key, without those of `CC` and `BCC`; or with the exchange's argument
  `hash-header` that header; or with `hash-property` a property of the message, which a router isn't told.
- What cannot be told here, a property or a header that is neither text nor an integer, leaves every
  destination possible: all of them are given, and `hash_of` says None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from waybill.matching.hashing import HASH_OF_UNDEFINED, bucket, phash2
from waybill.topology.values import Binding

Destination: TypeAlias = tuple[str, str]


class ConsistentHashMatcher:
    """The bindings of one consistent-hash exchange.

    Args:
        arguments: the exchange's.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self.reads_headers = "hash-header" in arguments
        self._bindings: dict[Binding, None] = {}
        self._ring: dict[Destination, Binding] = {}

    def add(self, binding: Binding) -> None:
        self._bindings[binding] = None
        self._ring.setdefault(_end(binding), binding)

    def remove(self, binding: Binding) -> None:
        del self._bindings[binding]
        self._ring.pop(_end(binding), None)

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> list[Binding]:
        if not self._ring:
            return []
        hashed = hash_of(self._arguments, routing_key, headers)
        if hashed is None:
            return list(self._ring.values())
        place = bucket(hashed, sum(map(weight, self._ring.values())))
        for binding in self._ring.values():
            place -= weight(binding)
            if place < 0:
                return [binding]
        raise AssertionError("a bucket behind the last one")

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings)


def hash_of(arguments: Mapping[str, Any], routing_key: str, headers: Mapping[str, Any]) -> int | None:
    """What the choice is made by, or None where it cannot be told."""
    if "hash-property" in arguments:
        return None
    value: Any = routing_key
    if "hash-header" in arguments:
        if arguments["hash-header"] not in headers:
            return HASH_OF_UNDEFINED
        value = headers[arguments["hash-header"]]
    if isinstance(value, str):
        return phash2(value.encode())
    if isinstance(value, (bytes, bytearray)):
        return phash2(bytes(value))
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def weight(binding: Binding) -> int:
    """How many buckets a binding asks for."""
    return int(binding.binding_key)


def _end(binding: Binding) -> Destination:
    return binding.destination_type, binding.destination
