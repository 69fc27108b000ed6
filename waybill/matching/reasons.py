"""Why a binding takes a message, or why not: one binding, one message, one plain sentence.

These are the rules of this package read one binding at a time, without an index: slower, and able to say where
it went wrong. The tests hold the two to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from waybill.matching.headers import PRESENT, UNSEEN, compared, given_key, mode_of, wanted_key
from waybill.matching.topic import ANY_WORD, ANY_WORDS, words_of
from waybill.topology.queue_arguments import type_name
from waybill.topology.values import Binding

MAX_SENTENCES = 4096
"""Sentences kept for the next binding that fails in the same word; some 300 bytes each."""

_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


class Verdict(NamedTuple):
    """Whether a binding takes a message, and the sentence that says why."""

    is_match: bool
    reason: str


def explain(kind: str, binding: Binding, keys: Sequence[str], headers: Mapping[str, Any]) -> Verdict:
    """Does `binding` take a message with these routing keys and headers, and why.

    Args:
        kind: the type that the binding's source routes by.
        keys: the message's routing key, then those of `CC` and `BCC`; one that matches is enough, and where
            none does the sentence is about the first.
    """
    if kind == "headers":
        return explain_headers(binding.arguments, headers)
    explain_key = _BY_KEY.get(kind)
    if explain_key is None:
        return Verdict(True, _ALWAYS.get(kind, f"one of those that {kind} chooses from; which, only the broker knows"))
    verdict = explain_key(binding.binding_key, keys[0])
    for key in keys[1:]:
        if verdict.is_match:
            break
        copied = explain_key(binding.binding_key, key)
        if copied.is_match:
            verdict = Verdict(True, f"{copied.reason} (`{key}` from CC or BCC)")
    return verdict


def explain_direct(binding_key: str, routing_key: str) -> Verdict:
    """Direct: equal keys."""
    if binding_key == routing_key:
        return Verdict(True, f"the keys are equal, {_quoted(routing_key)}")
    return Verdict(False, f"the routing key is {_quoted(routing_key)}, the binding wants {_quoted(binding_key)}")


def explain_topic(binding_key: str, routing_key: str) -> Verdict:
    """Topic: word by word."""
    if binding_key == ANY_WORDS:
        return Verdict(True, "`#` takes every key")
    wanted, word = binding_key.partition(".")[0], routing_key.partition(".")[0]
    if wanted not in (word, ANY_WORD, ANY_WORDS) and binding_key and routing_key:
        return _differs(0, word, wanted)  # nearly every binding of a large exchange ends here: not split
    pattern, words = words_of(binding_key), words_of(routing_key)
    if ANY_WORDS not in pattern:
        return _explain_words(pattern, words)
    first = pattern.index(ANY_WORDS)
    last = len(pattern) - 1 - pattern[::-1].index(ANY_WORDS)
    return _explain_gaps(pattern, words, first, last)


def _explain_words(pattern: list[str], words: list[str]) -> Verdict:
    for position, (wanted, word) in enumerate(zip(pattern, words, strict=False)):
        if wanted not in (word, ANY_WORD):
            return _differs(position, word, wanted)
    if len(words) > len(pattern):
        extra = f"{ordinal(len(pattern))} word is {_quoted(words[len(pattern)])}"
        return Verdict(False, f"{extra}, the binding ends after {counted(len(pattern))}")
    if len(words) < len(pattern):
        missing = f"{ordinal(len(words))}, {_quoted(pattern[len(words)])}"
        return Verdict(False, f"the key ends after {counted(len(words))}, the binding wants a {missing}")
    stars = [word for wanted, word in zip(pattern, words, strict=True) if wanted == ANY_WORD]
    if not stars:
        return Verdict(True, "every word is equal")
    return Verdict(True, f"`*` takes {' and '.join(map(_quoted, stars))}")


def _explain_gaps(pattern: list[str], words: list[str], first: int, last: int) -> Verdict:
    """A pattern with `#`: what stands before the first, after the last, and between them."""
    fixed = len(pattern) - pattern.count(ANY_WORDS)
    for position, (wanted, word) in enumerate(zip(pattern[:first], words, strict=False)):
        if wanted not in (word, ANY_WORD):
            return _differs(position, word, wanted)
    if len(words) < fixed:
        return Verdict(False, f"the key has {counted(len(words))}, the binding wants at least {_number(fixed)}")
    tail = len(pattern) - last - 1
    for back in range(1, tail + 1):
        if pattern[-back] not in (words[-back], ANY_WORD):
            return _differs(len(words) - back, words[-back], pattern[-back])
    rest = words[first : len(words) - tail]
    return _explain_middle(pattern[first : last + 1], rest)


def _explain_middle(pattern: list[str], rest: list[str]) -> Verdict:
    """From `#` to `#`: each run of words between has to be found in `rest`, in this order."""
    position = 0
    for run in _runs(pattern):
        found = next((at for at in range(position, len(rest) - len(run) + 1) if _fits(run, rest[at:])), None)
        if found is None:
            between = _quoted(".".join(rest[position:])) if rest[position:] else "nothing"
            return Verdict(False, f"{_quoted('.'.join(run))} does not stand where the `#` are, there is {between}")
        position = found + len(run)
    taken = _quoted(".".join(rest)) if rest else "no word"
    return Verdict(True, f"`#` takes {taken}" if len(pattern) == 1 else f"from `#` to `#` it takes {taken}")


def _runs(pattern: list[str]) -> list[list[str]]:
    runs: list[list[str]] = [[]]
    for word in pattern:
        if word == ANY_WORDS:
            runs.append([])
        else:
            runs[-1].append(word)
    return [run for run in runs if run]


def _fits(run: list[str], words: list[str]) -> bool:
    return all(wanted in (word, ANY_WORD) for wanted, word in zip(run, words, strict=False))


def explain_headers(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> Verdict:
    """Headers: the arguments against the headers, under the binding's `x-match`."""
    mode = mode_of(arguments)
    wanted = compared(arguments)
    if not wanted:
        ignored = " but ones that start with `x-`" if len(arguments) > ("x-match" in arguments) else ""
        if mode.startswith("any"):
            return Verdict(False, f"there are no arguments{ignored}, and `{mode}` wants one of them to match")
        return Verdict(True, f"there are no arguments{ignored}, so `{mode}` takes every message")
    verdicts = [_explain_header(name, value, headers) for name, value in wanted.items()]
    if mode.startswith("any"):
        taken = [verdict.reason for verdict in verdicts if verdict.is_match]
        return Verdict(True, taken[0]) if taken else Verdict(False, "; ".join(v.reason for v in verdicts))
    refused = [verdict.reason for verdict in verdicts if not verdict.is_match]
    return Verdict(False, refused[0]) if refused else Verdict(True, "; ".join(v.reason for v in verdicts))


def _explain_header(name: str, wanted: Any, headers: Mapping[str, Any]) -> Verdict:
    if name == UNSEEN and name in headers:
        return Verdict(False, f"header `{name}` is taken off before a message is routed")
    if name not in headers:
        others = [header for header in headers if header.lower() == name.lower()]
        spelt = f" (there is `{others[0]}`, and case counts)" if others else ""
        return Verdict(False, f"there is no header `{name}`{spelt}")
    key, value = wanted_key(wanted), headers[name]
    if key == PRESENT:
        return Verdict(True, f"header `{name}` is there")
    if key == given_key(value):
        return Verdict(True, f"header `{name}` is {value!r}")
    ours, theirs = type_name(wanted), type_name(value)
    if ours == theirs == "timestamp":
        return Verdict(False, f"header `{name}` is a timestamp, and RabbitMQ finds no two timestamps equal")
    kinds = f" of type {theirs}, the binding wants {wanted!r} of type {ours}" if ours != theirs else ""
    return Verdict(False, f"header `{name}` is {value!r}{kinds or f', the binding wants {wanted!r}'}")


def ordinal(index: int) -> str:
    """The place of a word, counted from 0, in words: `first`, `second`, ... `11th`."""
    return _ORDINALS[index] if index < len(_ORDINALS) else f"{index + 1}th"


def counted(count: int) -> str:
    """`no words`, `one word`, `two words`, ..."""
    return f"{_number(count)} word{'' if count == 1 else 's'}"


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


@lru_cache(maxsize=MAX_SENTENCES)
def _differs(position: int, word: str, wanted: str) -> Verdict:
    return Verdict(False, f"{ordinal(position)} word is {_quoted(word)}, the binding wants {_quoted(wanted)}")


def _quoted(text: str) -> str:
    return f"`{text}`" if text else "empty"


_BY_KEY: Mapping[str, Callable[[str, str], Verdict]] = {"direct": explain_direct, "topic": explain_topic}

_ALWAYS = {
    "fanout": "fanout takes every message",
    "x-recent-history": "takes every message, as fanout does",
}
