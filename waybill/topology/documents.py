"""A document of RabbitMQ's definitions, read entry by entry; what doesn't fit is named: what, where, got, expected.

Two shapes are read: the whole broker's (`rabbitmqctl export_definitions`, `GET /api/definitions`), where each
entry names its vhost, and one vhost's (`GET /api/definitions/{vhost}`), where none does. The vhost's policies, its
operator policies, which stand among the parameters, and its default queue type are read with them. Users and whatever
else stands there is left alone; a file that holds only exchanges, queues and bindings is enough.

RabbitMQ 4.3 imports a binding without a routing key: fanout, headers and the like take it as any other, to a direct
exchange it is a binding that no message matches, and for the other types it refuses it.

RabbitMQ's exports have a gap: exclusive queues and internal exchanges are left out, the bindings to them are
not. A queue missing from an export is therefore read as an exclusive one; a missing exchange is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar, cast

from waybill.errors import InputError, UnknownName
from waybill.topology.declarations import effective_type
from waybill.topology.policies import Policies, Policy
from waybill.topology.queue_arguments import ARGUMENTS_OF
from waybill.topology.values import DEFAULT_EXCHANGE, DEFAULT_VHOST, PREDECLARED, Binding, Exchange, Queue

V = TypeVar("V")

Contents = tuple[list[Exchange], list[Queue], list[Binding], str, str, Policies]
"""What a document holds of one vhost, the vhost's name, its default queue type, and its policies."""

SECTIONS = ("exchanges", "queues", "bindings", "policies", "parameters")
"""What of a document is read; each entry may name its vhost."""

TELLING = frozenset(SECTIONS) | {"vhosts", "users", "permissions", "global_parameters", "topic_permissions"}
"""Sections by which a document is known for definitions: it has one of them at least."""

OPERATOR_POLICY = "operator_policy"
"""The component under which operator policies stand among the parameters."""

IGNORES_KEYS = frozenset({"fanout", "headers", "x-random", "x-modulus-hash", "x-recent-history"})
"""Types to which a binding without a routing key is as any other."""

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


def contents(data: object, vhost: str | None, where: str) -> Contents:
    """What a definitions document holds of one vhost; arguments and errors as of `definitions.from_definitions`."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: expected an object with exchanges, queues and bindings, got {kind_of(data)}")
    if not TELLING & data.keys():
        raise InputError(f"{where}: no definitions: it has no exchanges, queues, bindings or vhosts")
    chosen = _choose_vhost(data, vhost, where)
    exchanges = [x for x in _read_all(data, "exchanges", chosen, where, _exchange) if x.name != DEFAULT_EXCHANGE]
    queues = _read_all(data, "queues", chosen, where, _queue)
    types = {exchange.name: effective_type(exchange) for exchange in (*PREDECLARED.values(), *exchanges)}
    read = _read_all(data, "bindings", chosen, where, lambda entry: _binding(entry, types))
    bindings = [b for b in read if b is not None and b.source != DEFAULT_EXCHANGE]
    if "rabbitmq_version" in data or "rabbit_version" in data:
        _refuse_internal(exchanges, bindings, where)
        queues += _exclusive(queues, bindings)
    policies = Policies(
        tuple(_read_all(data, "policies", chosen, where, _policy)),
        tuple(one for one in _read_all(data, "parameters", chosen, where, _operator_policy) if one),
    )
    return exchanges, queues, bindings, chosen, _default_queue_type(data, chosen), policies


def _choose_vhost(data: Mapping[str, Any], vhost: str | None, where: str) -> str:
    """The vhost that is meant; entries without one belong to any."""
    names = used_vhosts(data, where)
    listed = data.get("vhosts", [])
    if isinstance(listed, list):
        names |= {each["name"] for each in listed if isinstance(each, Mapping) and isinstance(each.get("name"), str)}
    if vhost is not None:
        if names and vhost not in names:
            raise UnknownName("vhost", vhost, names, where)
        return vhost
    if not names or DEFAULT_VHOST in names:
        original = data.get("original_vhost_name")
        return original if not names and isinstance(original, str) else DEFAULT_VHOST
    if len(names) > 1:
        raise InputError(f"{where}: holds several vhosts, say which: {', '.join(sorted(names))}")
    (only,) = names
    return only


def used_vhosts(data: Mapping[str, Any], where: str) -> set[str]:
    """The vhosts that the entries of a definitions document name."""
    return {entry["vhost"] for entry, _ in _entries(data, where) if isinstance(entry.get("vhost"), str)}


def _default_queue_type(data: Mapping[str, Any], vhost: str) -> str:
    """What the vhost's entry, or the document of one vhost, says; RabbitMQ passes over a type that it doesn't know."""
    vhosts = data.get("vhosts", [])
    named = [one for one in vhosts if isinstance(one, Mapping) and one.get("name") == vhost] if vhosts else [data]
    for one in named:
        metadata = one.get("metadata")
        kind = metadata.get("default_queue_type") if isinstance(metadata, Mapping) else None
        if isinstance(kind, str) and kind in ARGUMENTS_OF:
            return kind
    return "classic"


def _entries(data: Mapping[str, Any], where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for section in SECTIONS:
        yield from entries_of(data, section, where)


def _read_all(data: Mapping[str, Any], section: str, vhost: str, where: str, read: Callable[[Entry], V]) -> list[V]:
    entries = entries_of(data, section, where)
    return [read(Entry(entry, at)) for entry, at in entries if entry.get("vhost", vhost) == vhost]


def _exchange(entry: Entry) -> Exchange:
    return Exchange(
        entry.text("name"),
        entry.text("type"),
        entry.flag("durable", True),
        entry.flag("auto_delete", False),
        entry.flag("internal", False),
        entry.table("arguments"),
    )


def _queue(entry: Entry) -> Queue:
    return Queue(
        entry.text("name"),
        entry.flag("durable", True),
        entry.flag("exclusive", False),
        entry.flag("auto_delete", False),
        entry.table("arguments"),
    )


def _binding(entry: Entry, types: Mapping[str, str]) -> Binding | None:
    """The binding; None for one that no message matches."""
    source = entry.text("source")
    source_type = types.get(source, "fanout")  # of one that isn't there something else will be said
    kind = entry.text("destination_type", "queue")
    if kind not in ("queue", "exchange"):
        raise entry.refuse("destination_type", '"queue" or "exchange"')
    destination = entry.text("destination")
    is_unmatched = source_type == "direct" and not entry.has("routing_key")
    is_any = is_unmatched or source_type in IGNORES_KEYS
    binding = Binding(
        source,
        destination,
        "" if is_any and not entry.has("routing_key") else entry.text("routing_key"),
        entry.table("arguments"),
        cast(Literal["queue", "exchange"], kind),
    )
    return None if is_unmatched else binding


def _policy(entry: Entry) -> Policy:
    kinds = ("all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges")
    apply_to = entry.text("apply-to", "all")
    if apply_to not in kinds:
        raise entry.refuse("apply-to", f"one of {', '.join(kinds)}")
    return {
        "name": entry.text("name", ""),
        "pattern": entry.pattern("pattern"),
        "apply-to": apply_to,
        "priority": entry.number("priority", 0),
        "definition": entry.table("definition"),
    }


def _operator_policy(entry: Entry) -> Policy | None:
    if entry.text("component", "") != OPERATOR_POLICY:
        return None
    return {**_policy(entry.inner("value")), "name": entry.text("name", "")}


def _exclusive(queues: list[Queue], bindings: list[Binding]) -> list[Queue]:
    """The queues that a broker's export leaves out, though not the bindings to them: the exclusive ones."""
    listed = {queue.name for queue in queues}
    bound = dict.fromkeys(binding.destination for binding in bindings if binding.destination_type == "queue")
    return [Queue(name, durable=False, exclusive=True) for name in bound if name not in listed]


def _refuse_internal(exchanges: list[Exchange], bindings: list[Binding], where: str) -> None:
    """A broker's export leaves out internal exchanges too, and then nobody can say what type they were."""
    known = {exchange.name for exchange in exchanges} | set(PREDECLARED)
    for binding in bindings:
        ends = {binding.source} | ({binding.destination} if binding.destination_type == "exchange" else set())
        for name in ends - known:
            raise InputError(
                f"{where}: exchange '{name}' has bindings and isn't listed, as RabbitMQ exports no internal "
                f"exchange: add it to exchanges, with its type"
            )
