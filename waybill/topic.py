"""Topic keys: words and wildcards, and an index that finds the matching bindings without trying each.

    key     = "" | word { "." word }         the empty key has no words; "." has two, both empty
    "*"     one word, whatever it is         only as a whole word of a binding key;
    "#"     any number of words, none too    `a*` and `##` are plain words

Binding keys without a wildcard stand in a dictionary under the whole key. The others make a trie of
dictionaries, one word a level, that is walked with a stack of (node, words already used).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sys import intern
from typing import Any, TypeAlias

from waybill.slots import Slot, add_to, each_in, remove_from
from waybill.values import Binding

ANY_WORD = "*"
ANY_WORDS = "#"
END = "."
"""Where a node keeps the bindings that end there; no word can be a dot."""

Node: TypeAlias = dict[str, Any]


def words_of(key: str) -> list[str]:
    """The words of a key; the empty key has none (`split_topic_key_binary`)."""
    return key.split(".") if key else []


class TopicMatcher:
    """The bindings of one topic exchange."""

    reads_headers = False

    def __init__(self) -> None:
        self._plain: dict[str, Slot] = {}
        self._root: Node = {}

    def add(self, binding: Binding) -> None:
        words = words_of(binding.binding_key)
        if ANY_WORD not in words and ANY_WORDS not in words:
            add_to(self._plain, binding.binding_key, binding)
            return
        node = self._root
        for word in words:
            node = node.setdefault(intern(word), {})
        add_to(node, END, binding)

    def remove(self, binding: Binding) -> None:
        words = words_of(binding.binding_key)
        if ANY_WORD not in words and ANY_WORDS not in words:
            remove_from(self._plain, binding.binding_key, binding)
            return
        path = [self._root]
        for word in words:
            path.append(path[-1][word])
        remove_from(path[-1], END, binding)
        for parent, word in zip(reversed(path[:-1]), reversed(words), strict=True):
            if parent[word]:
                return
            del parent[word]

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> list[Binding]:  # noqa: ARG002
        matched: list[Binding] = []
        slot = self._plain.get(routing_key)
        if slot is not None:
            matched.extend(each_in(slot))
        if self._root:
            _walk(self._root, words_of(routing_key), matched)
        return matched

    def __iter__(self) -> Iterator[Binding]:
        for slot in self._plain.values():
            yield from each_in(slot)
        stack = [self._root]
        while stack:
            for word, child in stack.pop().items():
                if word == END:
                    yield from each_in(child)
                else:
                    stack.append(child)


def _walk(root: Node, words: list[str], matched: list[Binding]) -> None:
    count = len(words)
    seen: set[tuple[int, int]] = set()
    stack: list[tuple[Node, int]] = [(root, 0)]
    while stack:
        node, used = stack.pop()
        rest = node.get(ANY_WORDS)
        if rest is not None:
            for end in range(used, count + 1):
                if (id(rest), end) not in seen:
                    seen.add((id(rest), end))
                    stack.append((rest, end))
        if used == count:
            slot = node.get(END)
            if slot is not None:
                matched.extend(each_in(slot))
            continue
        child = node.get(words[used])
        if child is not None:
            stack.append((child, used + 1))
        child = node.get(ANY_WORD)
        if child is not None:
            stack.append((child, used + 1))
