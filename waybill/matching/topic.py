"""Topic keys: words and wildcards, and an index that finds the matching bindings without trying each.

    key     = "" | word { "." word }         the empty key has no words; "." has two, both empty
    "*"     one word, whatever it is         only as a whole word of a binding key;
    "#"     any number of words, none too    `a*` and `##` are plain words

Binding keys without a wildcard stand in a dictionary under the whole key. The others make a trie, one word a
level. It is walked as one runs a nondeterministic automaton: word by word, with all the nodes that the words
so far have reached. A node behind a `#` takes any word and stays where it is: once reached it is carried to
the end, and it is carried once: a match costs at most words x nodes, whatever the number of `#`, where trying
every split of the key among them would grow with each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sys import intern
from typing import Any

from waybill.matching.slots import Slot, add_to, each_in, joined, parted, remove_from
from waybill.topology.values import Binding

ANY_WORD = "*"
ANY_WORDS = "#"


def words_of(key: str) -> list[str]:
    """The words of a key; the empty key has none (`split_topic_key_binary`)."""
    return key.split(".") if key else []


def is_pattern(key: str) -> bool:
    """Whether a binding key has a wildcard."""
    if ANY_WORD not in key and ANY_WORDS not in key:
        return False
    words = words_of(key)
    return ANY_WORD in words or ANY_WORDS in words


class Node:
    """What binding keys with a common beginning go on with, and the bindings whose key ends here."""

    __slots__ = ("any_word", "any_words", "slot", "words")

    def __init__(self) -> None:
        self.words: dict[str, Node] = _NO_WORDS
        self.any_word: Node | None = None
        self.any_words: Node | None = None
        self.slot: Slot | None = None

    def child(self, word: str) -> Node | None:
        """The node behind `word`, a wildcard or a plain one."""
        if word == ANY_WORD:
            return self.any_word
        return self.any_words if word == ANY_WORDS else self.words.get(word)

    def grow(self, word: str) -> Node:
        """As `child`, made where there is none."""
        node = self.child(word)
        if node is None:
            node = Node()
            self.put(word, node)
        return node

    def put(self, word: str, node: Node | None) -> None:
        """Set or, with None, take away the node behind `word`."""
        if word == ANY_WORD:
            self.any_word = node
        elif word == ANY_WORDS:
            self.any_words = node
        elif node is not None:
            if not self.words:
                self.words = {}
            self.words[intern(word)] = node
        else:
            del self.words[word]

    def leads_on(self) -> bool:
        """Whether any binding key goes on from here."""
        return bool(self.words) or self.any_word is not None or self.any_words is not None


_NO_WORDS: dict[str, Node] = {}
"""Stands in every node that no plain word leads on from, most of them; never written to."""


class TopicMatcher:
    """The bindings of one topic exchange."""

    reads_headers = False

    def __init__(self) -> None:
        self._plain: dict[str, Slot] = {}
        self._root = Node()

    def add(self, binding: Binding) -> None:
        key = binding.binding_key
        if not is_pattern(key):
            add_to(self._plain, key, binding)
            return
        node = self._root
        for word in words_of(key):
            node = node.grow(word)
        node.slot = joined(node.slot, binding)

    def remove(self, binding: Binding) -> None:
        key = binding.binding_key
        if not is_pattern(key):
            remove_from(self._plain, key, binding)
            return
        node = self._root
        path: list[tuple[Node, str]] = []
        for word in words_of(key):
            path.append((node, word))
            node = _held(node.child(word), key)
        node.slot = parted(node.slot, binding)
        while path and node.slot is None and not node.leads_on():
            node, word = path.pop()
            node.put(word, None)

    def match(self, routing_key: str, headers: Mapping[str, Any]) -> list[Binding]:  # noqa: ARG002
        slot = self._plain.get(routing_key)
        matched: list[Binding] = [] if slot is None else list(each_in(slot))
        root = self._root
        if not root.leads_on() and root.slot is None:
            return matched
        carried: list[Node] = []
        if root.any_words is not None:
            _carry(root.any_words, carried, matched)
        reached = [root]
        for word in routing_key.split(".") if routing_key else ():
            if carried:
                reached += carried
            ahead: list[Node] = []
            for node in reached:
                child = node.words.get(word)
                if child is not None:
                    ahead.append(child)
                    if child.any_words is not None:
                        _carry(child.any_words, carried, matched)
                child = node.any_word
                if child is not None:
                    ahead.append(child)
                    if child.any_words is not None:
                        _carry(child.any_words, carried, matched)
            reached = ahead
        for node in reached:
            slot = node.slot
            if slot is not None:
                matched.extend(each_in(slot))
        return matched

    def __iter__(self) -> Iterator[Binding]:
        for slot in self._plain.values():
            yield from each_in(slot)
        stack = [self._root]
        while stack:
            node = stack.pop()
            if node.slot is not None:
                yield from each_in(node.slot)
            stack.extend(node.words.values())
            stack.extend(child for child in (node.any_word, node.any_words) if child is not None)


def _carry(node: Node | None, carried: list[Node], matched: list[Binding]) -> None:
    """Reach a node behind a `#`: its bindings match whatever is left, and it waits for the words it wants."""
    while node is not None and node not in carried:
        if node.slot is not None:
            matched.extend(each_in(node.slot))
        if node.leads_on():
            carried.append(node)
        node = node.any_words


def _held(node: Node | None, key: str) -> Node:
    if node is None:
        raise KeyError(key)
    return node
