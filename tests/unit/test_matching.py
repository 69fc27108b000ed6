"""Matching against the rules read plainly: six lines of recursion for topics, a scan for headers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybill.matching import Matcher, matcher_for
from waybill.matching.headers import HeadersMatcher
from waybill.matching.reasons import explain, explain_headers, explain_topic
from waybill.matching.topic import TopicMatcher, words_of
from waybill.topology import Binding, Exchange


def takes(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """The oracle: may these words stand for this pattern?"""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return takes(pattern[1:], words) or (bool(words) and takes(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and takes(pattern[1:], words[1:])


words = st.sampled_from(["", "a", "b", "c", "*", "#", "a*", "##"])
keys = st.lists(words, max_size=5).map(".".join)
values = st.one_of(
    st.sampled_from([0, 1, 2, 1.0, True, False, None, "", "1", b"1", b"\xff", Decimal("1.5"), Decimal("1.50")]),
    st.sampled_from([datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 1000]),
    st.lists(st.sampled_from([1, True, "1"]), max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from([1, 1.0]), max_size=2),
)
tables = st.dictionaries(st.sampled_from(["a", "b", "A", "x-a", "x-b"]), values, max_size=3)
modes = st.sampled_from([None, "all", "any", "all-with-x", "any-with-x"])


def topic(*binding_keys: str) -> TopicMatcher:
    matcher = TopicMatcher()
    for key in binding_keys:
        matcher.add(Binding("x", f"queue of {key}", key))
    return matcher


def matched(matcher: Matcher, routing_key: str = "", headers: dict[str, Any] | None = None) -> set[Binding]:
    return set(matcher.match(routing_key, headers or {}))


class TestTopic:
    @given(st.lists(keys, max_size=8, unique=True), keys)
    def test_the_trie_finds_what_the_oracle_finds(self, binding_keys: list[str], routing_key: str) -> None:
        found = {binding.binding_key for binding in matched(topic(*binding_keys), routing_key)}
        assert found == {key for key in binding_keys if takes(words_of(key), words_of(routing_key))}

    @given(keys, keys)
    def test_the_explanation_agrees_with_the_oracle(self, binding_key: str, routing_key: str) -> None:
        assert explain_topic(binding_key, routing_key).is_match == takes(words_of(binding_key), words_of(routing_key))

    @given(st.lists(st.tuples(st.booleans(), keys), max_size=30), keys)
    def test_what_was_removed_leaves_nothing_behind(self, changes: list[tuple[bool, str]], routing_key: str) -> None:
        matcher, held = TopicMatcher(), dict[Binding, None]()
        for is_added, key in changes:
            binding = Binding("x", "q", key)
            if is_added and binding not in held:
                matcher.add(binding)
                held[binding] = None
            elif not is_added and binding in held:
                matcher.remove(binding)
                del held[binding]
        assert set(matcher) == set(held)
        assert matched(matcher, routing_key) == matched(topic_of(held), routing_key)
        for binding in held:
            matcher.remove(binding)
        assert not matcher._plain
        assert not matcher._root.leads_on()
        assert matcher._root.slot is None

    def test_many_hashes_are_walked_once(self) -> None:
        # Tried split by split this would be more steps than there are seconds in a century.
        matcher = topic(".".join(["#", "a"] * 15))
        steps = matcher.match(".".join(["a"] * 31), {})
        assert len(steps) <= 32
        assert not matcher.match(".".join(["a"] * 30 + ["b"]), {})

    def test_queues_on_one_key_come_and_go(self) -> None:
        matcher, bindings = TopicMatcher(), [Binding("x", f"q{number}", "a.*") for number in range(5)]
        for binding in bindings:
            matcher.add(binding)
        for count, binding in enumerate(bindings, 1):
            matcher.remove(binding)
            assert matched(matcher, "a.b") == set(bindings[count:])


def topic_of(bindings: dict[Binding, None]) -> TopicMatcher:
    matcher = TopicMatcher()
    for binding in bindings:
        matcher.add(binding)
    return matcher


class TestHeaders:
    @given(st.lists(st.tuples(modes, tables), max_size=8), tables)
    def test_the_index_finds_what_a_scan_finds(
        self, wanted: list[tuple[str | None, dict[str, Any]]], headers: dict[str, Any]
    ) -> None:
        matcher = HeadersMatcher()
        held = dict.fromkeys(Binding("x", "q", "", arguments(mode, table)) for mode, table in wanted)
        for binding in held:
            matcher.add(binding)
        assert set(matcher) == set(held)
        scan = {binding for binding in held if explain_headers(binding.arguments, headers).is_match}
        assert matched(matcher, "", headers) == scan
        for binding in list(held)[::2]:
            matcher.remove(binding)
        assert matched(matcher, "", headers) == scan - set(list(held)[::2])

    @pytest.mark.parametrize(
        ("wanted", "given", "is_match"),
        [
            (1, 1, True),
            (2**40, 2**40, True),
            (1, 1.0, False),
            (1, "1", False),
            (1, True, False),
            (1.5, 1.5, True),
            ("", "", True),
            ("text", b"text", True),
            (None, "anything", True),
            (None, None, True),
            (0, None, False),
            ([1, "a"], [1, "a"], True),
            ([1], [True], False),
            ({"a": 1}, {"a": 1}, True),
            ({"a": 1}, {"a": 1.0}, False),
            (Decimal("1.5"), Decimal("1.50"), False),
            (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), False),
            (1_577_836_800_000, datetime(2020, 1, 1, tzinfo=UTC), True),
            ([datetime(2020, 1, 1, tzinfo=UTC)], [datetime(2020, 1, 1, tzinfo=UTC)], True),
        ],
    )
    def test_values_are_compared_by_type(self, wanted: Any, given: Any, is_match: bool) -> None:
        matcher = HeadersMatcher()
        matcher.add(Binding("x", "q", "", {"h": wanted}))
        assert bool(matcher.match("", {"h": given})) is is_match

    @pytest.mark.parametrize(
        ("mode", "empty_matches", "x_matches"),
        [(None, True, True), ("all", True, True), ("any", False, False), ("all-with-x", True, False)],
    )
    def test_what_is_left_to_compare(self, mode: str | None, empty_matches: bool, x_matches: bool) -> None:
        assert explain_headers(arguments(mode, {}), {}).is_match is empty_matches
        assert explain_headers(arguments(mode, {"x-only": 1}), {}).is_match is x_matches


def arguments(mode: str | None, table: dict[str, Any]) -> dict[str, Any]:
    return table if mode is None else {**table, "x-match": mode}


REASONS = [
    ("topic", "usa.news", "usa.news.nba", "third word is `nba`, the binding ends after two words"),
    ("topic", "usa.news.*", "usa.news", "the key ends after two words, the binding wants a third, `*`"),
    ("topic", "usa.*", "eu.news", "first word is `eu`, the binding wants `usa`"),
    ("topic", "a.*.c", "a.b.c", "`*` takes `b`"),
    ("topic", "a.b", "a.b", "every word is equal"),
    ("topic", "a.#", "a", "`#` takes no word"),
    ("topic", "#.z", "a.b", "second word is `b`, the binding wants `z`"),
    ("topic", "a.#.b.c", "a.b", "the key has two words, the binding wants at least three"),
    ("topic", "#.x.#", "a.b", "`x` does not stand where the `#` are, there is `a.b`"),
    ("topic", "*", "", "the key ends after no words, the binding wants a first, `*`"),
    ("direct", "a", "b", "the routing key is `b`, the binding wants `a`"),
    ("direct", "a", "", "the routing key is empty, the binding wants `a`"),
]


@pytest.mark.parametrize(("kind", "binding_key", "routing_key", "reason"), REASONS)
def test_reasons_are_sentences(kind: str, binding_key: str, routing_key: str, reason: str) -> None:
    assert explain(kind, Binding("x", "q", binding_key), [routing_key], {}).reason == reason


@pytest.mark.parametrize(
    ("wanted", "headers", "reason"),
    [
        ({"format": "pdf"}, {}, "there is no header `format`"),
        (
            {"format": "pdf"},
            {"Format": "pdf"},
            "there is no header `format` (there is `Format`, and case counts)",
        ),
        ({"n": 1}, {"n": "1"}, "header `n` is '1' of type longstr, the binding wants 1 of type signedint"),
        ({"n": 1}, {"n": 2}, "header `n` is 2, the binding wants 1"),
        ({}, {"n": 2}, "there are no arguments, so `all` takes every message"),
        ({"x-match": "any"}, {"n": 2}, "there are no arguments, and `any` wants one of them to match"),
    ],
)
def test_reasons_of_headers(wanted: dict[str, Any], headers: dict[str, Any], reason: str) -> None:
    assert explain("headers", Binding("x", "q", "", wanted), [""], headers).reason == reason


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers", "x-random"])
def test_every_matcher_holds_and_lets_go(kind: str) -> None:
    matcher = matcher_for(Exchange("x", kind))
    bindings = [Binding("x", f"q{number}", "k", {"h": number % 2}) for number in range(4)]
    for binding in bindings:
        matcher.add(binding)
    assert set(matcher) == set(bindings)
    for binding in bindings:
        matcher.remove(binding)
    assert not list(matcher)
    assert not matcher.match("k", {"h": 0})
