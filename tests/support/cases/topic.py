"""Rows for topic exchanges: one for each routing key, against every binding key, and the keys that are
refused."""

from __future__ import annotations

from tests.support.cases.case import Case, Declaration, Outcome, reaches, refuses
from waybill.topology import Binding, Exchange, Message, Queue

MEASURED = "measured on RabbitMQ 4.3.6"

BINDING_KEYS = (
    *("", "*", "#", "*.*", "a.*", "a.#", "#.*", "a..b"),
    *("a.*.b", "*.a", "#.#", ".#", ".*", "a.", "*.#.*"),
)

MATCHING = {
    "": ("", "#", "#.#"),
    ".": ("#", "*.*", "#.*", "#.#", ".#", ".*", "*.#.*"),
    "a": ("*", "#", "a.#", "#.*", "#.#"),
    "a.": ("#", "*.*", "a.*", "a.#", "#.*", "#.#", "a.", "*.#.*"),
    ".a": ("#", "*.*", "#.*", "*.a", "#.#", ".#", ".*", "*.#.*"),
    "a..b": ("#", "a.#", "#.*", "a..b", "a.*.b", "#.#", "*.#.*"),
    "..": ("#", "#.*", "#.#", ".#", "*.#.*"),
    "*": ("*", "#", "#.*", "#.#"),
    "#": ("*", "#", "#.*", "#.#"),
}
"""Routing key -> the binding keys that match it; every other one of `BINDING_KEYS` does not."""

_T: Declaration = Exchange("t", "topic")


def queues(*names: str) -> tuple[Queue, ...]:
    """Queues that end with the connection, and are quick to declare."""
    return tuple(Queue(name, durable=False, exclusive=True) for name in names)


def topic_case(claim: str, source: str, binding_keys: tuple[str, ...], routing_key: str, expect: Outcome) -> Case:
    """A topic exchange `t` with one queue for each binding key, named after it."""
    bound = queues(*(f"q:{key}" for key in binding_keys))
    bindings = tuple(Binding("t", f"q:{key}", key) for key in binding_keys)
    return Case(claim, source, (_T, *bound, *bindings), (Message("t", routing_key),), expect)


def _matches(claim: str, source: str, binding_key: str, routing_key: str) -> Case:
    return topic_case(claim, source, (binding_key,), routing_key, reaches(f"q:{binding_key}"))


def _differs(claim: str, source: str, binding_key: str, routing_key: str) -> Case:
    return topic_case(claim, source, (binding_key,), routing_key, reaches())


def _refused(count: int, binding_key: str) -> Case:
    text = f"Topic binding key '{binding_key}' uses {count} '#' wildcards, at most 2 are allowed"
    declare = (_T, *queues("q"), Binding("t", "q", binding_key))
    return Case(f"{count} # are refused: {binding_key}", MEASURED, declare, (), refuses("declare 2", 406, text))


_LONG: tuple[Declaration, ...] = (_T, *queues("q"), Binding("t", "q", "ü" * 127 + "k"))

TUTORIAL = "https://www.rabbitmq.com/tutorials/tutorial-five-python"
TRIE = "rabbit_db_topic_exchange.erl"

TOPIC = (
    *(
        topic_case(
            f"routing key {routing_key!r}",
            MEASURED,
            BINDING_KEYS,
            routing_key,
            reaches(*(f"q:{binding_key}" for binding_key in matching)),
        )
        for routing_key, matching in MATCHING.items()
    ),
    _matches("a.# matches a", TUTORIAL, "a.#", "a"),
    _matches("#.a matches a", MEASURED, "#.a", "a"),
    _matches("a.#.b matches a.b", MEASURED, "a.#.b", "a.b"),
    _matches("lazy.# matches many words", TUTORIAL, "lazy.#", "lazy.orange.new.rabbit"),
    _matches("*.orange.* matches the word in the middle", TUTORIAL, "*.orange.*", "quick.orange.rabbit"),
    _differs("*.orange.* takes three words, not four", TUTORIAL, "*.orange.*", "quick.orange.new.rabbit"),
    _differs("* is never zero words", TUTORIAL, "a.*", "a"),
    _matches("a#b is a plain word", MEASURED, "a#b", "a#b"),
    _differs("a#b is no pattern", MEASURED, "a#b", "axb"),
    _matches("## is a plain word", MEASURED, "##", "##"),
    _differs("## is no pattern", MEASURED, "##", "a.b"),
    _differs("case counts", MEASURED, "a.B", "a.b"),
    _matches("* in a routing key is a plain word", MEASURED, "a.*", "a.*"),
    _differs("* in a routing key is no pattern", MEASURED, "a.b", "a.*"),
    _differs("# in a routing key is no pattern", MEASURED, "a.b", "a.#"),
    _matches("two # take all words between and around", TRIE, "#.a.#", "b.a.c.a"),
    _matches("a # gives back words that a later one needs", TRIE, "#.a.#.b", "a.b.a.b"),
    _differs("what follows # must end the key", TRIE, "#.a.#.b", "a.b.a"),
    _matches("words are Unicode", MEASURED, "grün.*", "grün.日本"),
    Case(
        "255 bytes are a key",
        "AMQP 0-9-1 specification, 4.2.5.3, short strings",
        _LONG,
        (Message("t", "ü" * 127 + "k"),),
        reaches("q"),
    ),
    _refused(3, "#.#.#"),
    _refused(4, "#.a.#.b.#.#"),
)
