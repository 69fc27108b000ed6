"""`python -m tools.conformance.kombu_memory`: how often Kombu's in-memory transport matches a topic key
wrongly.

Pairs of a binding key and a routing key are given to Kombu's `TopicExchange`, which stands behind
`memory://`, and to waybill's matcher, which is held against RabbitMQ by the rest of this package.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from random import Random
from typing import Any

from kombu.transport.virtual.exchange import TopicExchange

from tests.support.cases.topic import BINDING_KEYS, MATCHING
from tools.conformance import vocabulary
from waybill.matching.topic import TopicMatcher
from waybill.topology import Binding

Pair = tuple[str, str]


def table_pairs() -> Iterator[Pair]:
    """Every pair of the case table's topic rows."""
    return ((binding_key, routing_key) for routing_key in MATCHING for binding_key in BINDING_KEYS)


def generated_pairs(seed: int, count: int) -> set[Pair]:
    """So many different pairs of the generator's keys, the routing key often made to fit."""
    rng, pairs = Random(seed), set[Pair]()
    while len(pairs) < count:
        binding_key, routing_key = vocabulary.binding_key(rng), vocabulary.routing_key(rng)
        if vocabulary.chance(rng, 50):
            words = (vocabulary.filled(rng, word) for word in binding_key.split("."))
            routing_key = ".".join(word for some in words for word in some)
        if len(routing_key.encode()) <= 255:
            pairs.add((binding_key, routing_key))
    return pairs


def kombu_matches(binding_key: str, routing_key: str) -> bool | None:
    """What `memory://` would do; None where it fails, the key being no regular expression."""
    exchange: Any = TopicExchange(channel=None)
    table = [(binding_key, exchange.key_to_pattern(binding_key), "q")]
    try:
        return "q" in exchange.lookup(table, "t", routing_key, "default")
    except re.error:
        return None


def waybill_matches(binding_key: str, routing_key: str) -> bool:
    """What RabbitMQ would do."""
    matcher = TopicMatcher()
    matcher.add(Binding("t", "q", binding_key))
    return bool(matcher.match(routing_key, {}))


def main() -> None:
    """Count, and show the shortest pairs on which the two differ."""
    parser = argparse.ArgumentParser(prog="python -m tools.conformance.kombu_memory")
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    _report("table", set(table_pairs()))
    _report(f"generated, seed {given.seed}", generated_pairs(given.seed, given.pairs))


def _report(label: str, pairs: set[Pair]) -> None:
    answers = {pair: (kombu_matches(*pair), waybill_matches(*pair)) for pair in pairs}
    wrong = sorted((pair for pair, (kombu, right) in answers.items() if kombu is not right), key=_length)
    kinds = {None: "fail", False: "miss", True: "match too much"}
    found = ", ".join(f"{sum(answers[pair][0] is kind for pair in wrong)} {name}" for kind, name in kinds.items())
    print(f"{label}: {len(wrong)} of {len(pairs)} pairs wrong: {found}")
    for binding_key, routing_key in wrong[:5]:
        print(f"  binding key {binding_key!r}, routing key {routing_key!r}")


def _length(pair: Pair) -> tuple[int, Pair]:
    return len(pair[0]) + len(pair[1]), pair


if __name__ == "__main__":
    main()
