"""What the benchmarks match: generated binding keys and routing keys, the same in every run."""

from __future__ import annotations

import random

WORDS = tuple(f"word{number}" for number in range(100))
"""The vocabulary of all keys: small enough that every key meets wildcards and near misses."""

STAR_SHARE = 0.10
HASH_SHARE = 0.01
"""Shares of the words of a binding key that are `*` and `#`."""

MAX_HASH_WORDS = 2
"""RabbitMQ refuses more in one key."""


def binding_keys(count: int, seed: int = 1) -> list[str]:
    """`count` different binding keys of 2 to 5 words, 10 % of them `*` and 1 % `#`."""
    rng = random.Random(seed)
    keys: dict[str, None] = {}
    while len(keys) < count:
        words = [pattern_word(rng) for _ in range(rng.randint(2, 5))]
        if words.count("#") <= MAX_HASH_WORDS:
            keys[".".join(words)] = None
    return list(keys)


def routing_keys(count: int, seed: int = 2) -> list[str]:
    """`count` different routing keys of 2 to 5 words."""
    rng = random.Random(seed)
    keys: dict[str, None] = {}
    while len(keys) < count:
        keys[".".join(rng.choice(WORDS) for _ in range(rng.randint(2, 5)))] = None
    return list(keys)


def header_tables(count: int, seed: int = 3) -> list[dict[str, str | int]]:
    """`count` tables of three headers, each of eight names with fifty values."""
    rng = random.Random(seed)
    return [{f"header{name}": rng.randrange(50) for name in rng.sample(range(8), 3)} for _ in range(count)]


def pattern_word(rng: random.Random) -> str:
    """One word of a binding key, by the shares above."""
    share = rng.random()
    if share < STAR_SHARE:
        return "*"
    return "#" if share < STAR_SHARE + HASH_SHARE else rng.choice(WORDS)
