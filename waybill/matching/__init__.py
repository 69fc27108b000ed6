"""Does this binding take this message? The rules, exchange type by exchange type.

| type    | a binding takes a message when                                   | stated in               |
|---------|------------------------------------------------------------------|-------------------------|
| direct  | binding key and routing key are equal                            | ..._type_direct.erl     |
| fanout  | always                                                           | ..._type_fanout.erl     |
| topic   | the words match: `*` is one word, `#` any number, none included  | ..._db_topic_exchange   |
| headers | its arguments are in the message's headers: all of them, or any  | ..._type_headers.erl    |

(`rabbit_exchange_type_direct.erl` and so on; the topics' trie is `rabbit_db_topic_exchange.erl`.)

- Topic keys are split at every dot and empty words count, except that the empty key has no word at all. `*`
  and `#` are wildcards only as a whole word of a binding key. See topic.py.
- Headers are compared by type and value. See headers.py, and fields.py of `waybill.topology`.
- A consistent-hash exchange chooses one destination. See consistent_hash.py.
- The random and the modulus-hash exchanges choose one of all their bindings: a router that is told how chooses, any
  other gives all of them as candidates.
- Nothing here knows queues from exchanges, alternates or dead letters: that is `waybill.routing`.

A matcher holds one exchange's bindings, arranged so that a match does not look at all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from waybill.matching.consistent_hash import ConsistentHashMatcher
from waybill.matching.headers import HeadersMatcher
from waybill.matching.slots import Slot, add_to, each_in, remove_from
from waybill.matching.topic import TopicMatcher
from waybill.topology.declarations import effective_type
from waybill.topology.values import Binding, Exchange


class Matcher(Protocol):
    """One exchange's bindings. A binding is added once and removed once; the router sees to that."""

    reads_headers: bool
    """Whether a match depends on the message's headers."""

    def add(self, binding: Binding) -> None:
        """Hold one more binding."""

    def remove(self, binding: Binding) -> None:
        """Let go of a binding that is held."""

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> list[Binding]:
        """The bindings that take such a message; one may be listed twice."""

    def __iter__(self) -> Iterator[Binding]:
        """Every binding held."""


class DirectMatcher:
    """Equal keys: one dictionary."""

    reads_headers = False

    def __init__(self) -> None:
        self._by_key: dict[str, Slot] = {}

    def add(self, binding: Binding) -> None:
        add_to(self._by_key, binding.binding_key, binding)

    def remove(self, binding: Binding) -> None:
        remove_from(self._by_key, binding.binding_key, binding)

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> list[Binding]:  # noqa: ARG002
        slot = self._by_key.get(routing_key)
        return [] if slot is None else list(each_in(slot))

    def __iter__(self) -> Iterator[Binding]:
        for slot in self._by_key.values():
            yield from each_in(slot)


class FanoutMatcher:
    """Every binding takes every message."""

    reads_headers = False

    def __init__(self) -> None:
        self._bindings: dict[Binding, None] = {}

    def add(self, binding: Binding) -> None:
        self._bindings[binding] = None

    def remove(self, binding: Binding) -> None:
        del self._bindings[binding]

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> list[Binding]:  # noqa: ARG002
        return list(self._bindings)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings)


class ChoiceMatcher(FanoutMatcher):
    """`x-random`, `x-local-random`, `x-modulus-hash`: one of all bindings takes the message, whatever its key.

    Which one is the broker's to say: `match` gives all of them. A queue that is bound twice counts twice.
    """


_MATCHERS: Mapping[str, Callable[[], Matcher]] = {
    "direct": DirectMatcher,
    "topic": TopicMatcher,
    "headers": HeadersMatcher,
    "x-random": ChoiceMatcher,
    "x-local-random": ChoiceMatcher,
    "x-modulus-hash": ChoiceMatcher,
}


def matcher_for(exchange: Exchange) -> Matcher:
    """An empty matcher of the exchange's type.

    A type whose choice cannot be told offline (`x-random`, ...) gets the matcher of what it chooses from.
    """
    kind = effective_type(exchange)
    if kind == "x-consistent-hash":
        return ConsistentHashMatcher(exchange.arguments)
    return _MATCHERS.get(kind, FanoutMatcher)()
