"""The words, keys and values that generated cases are made of: few, so that they meet, and all the odd
ones."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

WORDS = ("a", "a", "a", "b", "b", "c", "", "", "A", "grün", "日本", "a#", "**", "💡")
WILD = ("*", "*", "#")

MOMENT = datetime(2024, 2, 29, 12, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31 - 1, 2**31, 2**40, -(2**63), 0.0, -0.0, 1.0, 1.5, 1e300),
    *("", "1", "a", "grün", "true", b"", b"1", b"a", "grün".encode(), b"\xff\x00"),
    *(Decimal(1), Decimal("1.5"), Decimal("1.50"), Decimal("-0.5")),
    *(MOMENT, SECONDS, 1000 * SECONDS, datetime(1970, 1, 1, tzinfo=UTC)),
    *([], {}, [1], [1.0], ["a"], [b"a"], [None], [[]], [{}], [MOMENT], ["a", "b"], ["b", "a"]),
    *({"a": 1}, {"a": "b"}, {"a": b"b"}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"t": MOMENT}, {"a": [None]}),
)
COMMON_VALUES: tuple[Any, ...] = (1, 1, "a", "a", True, None, 1.0)

HEADER_NAMES = ("k", "k", "l", "m", "K", "grün", "x", "x-k", "x-l", "x-match")
DEATH_HEADERS = ("x-first-death-reason", "x-last-death-queue", "x-last-death-exchange", "x-death")

MODES = ("all", "any", "all-with-x", "any-with-x")
BAD_MODES: tuple[Any, ...] = ("ALL", "", "some", 1, True, None, b"all")

PRIORITIES = (None, None, 0, 1, 2, 3, 4, 5, 9, 10, 11, 31, 32, 255)


def chance(rng: Random, percent: float) -> bool:
    """True in so many of a hundred calls."""
    return rng.random() * 100 < percent


def routing_key(rng: Random) -> str:
    """Up to four words; now and then one with `*` or `#` in it, which mean nothing here."""
    if chance(rng, 3):
        return rng.choice(("*", "#", "a.#", "a.*", "." * rng.randint(1, 4), "ü" * 120, "a." * 100))
    return ".".join(rng.choice(WORDS) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))))


def binding_key(rng: Random) -> str:
    """As a routing key, and a third of the words wild; in one of a hundred more `#` than RabbitMQ takes."""
    if chance(rng, 1):
        return rng.choice(("#.#.#", "#.a.#.#", "#.*.#.*.#.#"))
    words = [rng.choice(WILD if chance(rng, 35) else WORDS) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 5)))]
    while words.count("#") > 2:
        words.remove("#")
    return ".".join(words)


def filled(rng: Random, word: str) -> list[str]:
    """The words of a routing key that one word of a binding key may stand for."""
    count = {"*": 1, "#": rng.randint(0, 2)}.get(word)
    return [word] if count is None else [rng.choice(WORDS) for _ in range(count)]


def value(rng: Random) -> Any:
    """A header's value, of every type that the clients can send."""
    return rng.choice(COMMON_VALUES if chance(rng, 50) else VALUES)
