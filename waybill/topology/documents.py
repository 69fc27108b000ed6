"""A JSON document read entry by entry and field by field; what doesn't fit is named: what, where, got, expected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from waybill.errors import InputError

MAX_NESTING = 100
"""Objects and lists inside one another: arguments of real exports have some five."""


def is_too_deep(document: object) -> bool:
    """Whether a document is nested more than `MAX_NESTING` deep: what reads it would come to Python's own limit."""
    level = [document]
    for _ in range(MAX_NESTING):
        values = [one.values() if isinstance(one, Mapping) else one for one in level if isinstance(one, Mapping | list)]
        level = [inner for value in values for inner in value]
    return bool(level)


def entries_of(data: Mapping[str, Any], name: str, where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The objects in the list `name` of a document, each with where it stands; a missing list is an empty one.

    Raises:
        InputError: it is no list, or something in it is no object.
    """
    entries = data.get(name, [])
    if not isinstance(entries, list):
        raise InputError(f"{where}: {name}: expected a list, got {kind_of(entries)}")
    for index, entry in enumerate(entries):
        at = f"{where}: {name}[{index}]"
        if not isinstance(entry, Mapping):
            raise InputError(f"{at}: expected an object, got {kind_of(entry)}")
        yield entry, at


class Entry:
    """One object of the document, read field by field; each method raises InputError for another type."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        self._fields = fields
        self._where = where

    def has(self, name: str) -> bool:
        """Whether the field is there; `null` is as none."""
        return self._fields.get(name) is not None

    def inner(self, name: str) -> Entry:
        """The object in a field."""
        return Entry(self.table(name), f"{self._where}: {name}")

    def number(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._fields.get(name, default)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise InputError(f"{self._where}: {name}: expected a number, got {kind_of(value)}")

    def pattern(self, name: str) -> str:
        """A regular expression."""
        text = self.text(name)
        try:
            re.compile(text)
        except re.error as error:
            raise InputError(f"{self._where}: {name}: {text!r} is no regular expression: {error}") from error
        return text

    def text(self, name: str, default: str | None = None) -> str:
        """Text; `default` where the field is missing, which without one is an error."""
        value = self._fields.get(name, default)
        if isinstance(value, str):
            return value
        got = "nothing" if name not in self._fields else kind_of(value)
        raise InputError(f"{self._where}: {name}: expected text, got {got}")

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._fields.get(name, default)
        if isinstance(value, bool):
            return value
        raise InputError(f"{self._where}: {name}: expected true or false, got {kind_of(value)}")

    def table(self, name: str) -> Mapping[str, Any]:
        """An object; a missing one is empty."""
        value = self._fields.get(name, {})
        if isinstance(value, Mapping):
            return value
        if value == []:  # what an empty table becomes in some of the broker's own exports
            return {}
        raise InputError(f"{self._where}: {name}: expected an object, got {kind_of(value)}")

    def refuse(self, name: str, expected: str) -> InputError:
        """The error for a value that none of the others refuses."""
        return InputError(f"{self._where}: {name}: expected {expected}, got {kind_of(self._fields[name])}")


def kind_of(value: object) -> str:
    """What a JSON value is, with the value where it is short."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    written = json.dumps(value, default=repr)
    return written if len(written) <= 40 else written[:37] + "..."
