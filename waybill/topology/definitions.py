"""RabbitMQ's definitions JSON, in and out.

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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from waybill.errors import InputError, TopologyError, UnknownName
from waybill.topology import DEFAULT_EXCHANGE, DEFAULT_VHOST, PREDECLARED, Binding, Exchange, Queue, Topology
from waybill.topology.declarations import effective_type
from waybill.topology.documents import MAX_NESTING, Entry, entries_of, is_too_deep, kind_of
from waybill.topology.fields import plain
from waybill.topology.policies import Policies, Policy
from waybill.topology.queue_arguments import ARGUMENTS_OF

V = TypeVar("V")

SECTIONS = ("exchanges", "queues", "bindings", "policies", "parameters")
"""What of a document is read; each entry may name its vhost."""

TELLING = frozenset(SECTIONS) | {"vhosts", "users", "permissions", "global_parameters", "topic_permissions"}
"""Sections by which a document is known for definitions: it has one of them at least."""

OPERATOR_POLICY = "operator_policy"
"""The component under which operator policies stand among the parameters."""

IGNORES_KEYS = frozenset({"fanout", "headers", "x-random", "x-modulus-hash", "x-recent-history"})
"""Types to which a binding without a routing key is as any other."""


def read_definitions(path: str | Path, vhost: str | None = None) -> Topology:
    """The topology in a definitions file.

    Raises:
        InputError: the file can't be read, isn't JSON, isn't of the shape, or holds what RabbitMQ would refuse; in one
            line with its name.
    """
    return named_definitions(read_document(path), vhost, str(path))


def named_definitions(data: object, vhost: str | None, where: str) -> Topology:
    """As `from_definitions`; RabbitMQ's refusals name the document, too."""
    try:
        return from_definitions(data, vhost, where=where)
    except TopologyError as error:
        raise InputError(f"{where}: {error.reply_code} {error}") from error


def read_document(path: str | Path) -> object:
    """The parsed JSON of a definitions file.

    Raises:
        InputError: the file can't be read or isn't JSON; in one line with its name.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if is_too_deep(document):
        raise InputError(f"{path}: nested more than {MAX_NESTING} deep")
    return document


def from_definitions(data: object, vhost: str | None = None, *, where: str = "definitions") -> Topology:
    """The topology of one vhost in a definitions document.

    Args:
        data: the parsed JSON.
        vhost: which one, where there are several; by default `/`, or else the only one there is.
        where: what to call the document in errors.

    Raises:
        InputError: something isn't of the shape: what, where, got, expected.
        UnknownName: no such vhost in it.
        TopologyError: RabbitMQ would refuse what stands in it.
    """
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
    return Topology(exchanges, queues, bindings, chosen, _default_queue_type(data, chosen), policies)


def all_topologies(data: object, *, where: str = "definitions") -> list[Topology]:
    """The topologies of all vhosts in a definitions document.

    Raises:
        InputError: it isn't of the shape, or holds what RabbitMQ would refuse; in one line with `where`.
    """
    names: list[str] = sorted(_used_vhosts(data, where)) if isinstance(data, Mapping) else []
    return [named_definitions(data, name, where) for name in names or (None,)]


def left_out(data: object, vhost: str | None = None) -> list[str]:
    """What a definitions document holds that would change a message's way and is no part of a topology, in words.

    Args:
        vhost: only what is of this one.
    """
    # Federation upstreams and shovels, for two.
    others = [one for one in _objects(data, "parameters", vhost) if one.get("component") != OPERATOR_POLICY]
    types = {one.get("name"): one.get("type") for one in _objects(data, "exchanges", vhost)}
    direct = {"amq.direct", *(name for name, kind in types.items() if kind == "direct")}
    bindings = _objects(data, "bindings", vhost)
    keyless = [one for one in bindings if one.get("routing_key") is None and one.get("source") in direct]
    told = {"parameters": others, "bindings without a routing key, which no message matches": keyless}
    return [f"{what} ({len(found)})" for what, found in told.items() if found]


def _objects(data: object, section: str, vhost: str | None) -> list[Mapping[str, Any]]:
    entries = data.get(section) if isinstance(data, Mapping) else None
    found = [one for one in entries if isinstance(one, Mapping)] if isinstance(entries, list) else []
    return found if vhost is None else [one for one in found if one.get("vhost", vhost) == vhost]


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


def to_definitions(topology: Topology) -> dict[str, Any]:
    """A definitions document that RabbitMQ imports: for its vhost alone and for the broker alike.

    Exclusive queues are left out, with the bindings to them: they end with their connection.

    Raises:
        InputError: a void argument, for which this JSON has no place (RabbitMQ: `null_not_allowed`).
    """
    at = {"vhost": topology.vhost}
    kept = {queue.name for queue in topology.queues if not queue.exclusive}
    return {
        "vhosts": [{"name": topology.vhost}],
        "exchanges": [_from_exchange(exchange) | at for exchange in topology.exchanges],
        "queues": [_from_queue(queue) | at for queue in topology.queues if queue.name in kept],
        "bindings": [
            _from_binding(binding) | at
            for binding in topology.bindings
            if binding.destination_type == "exchange" or binding.destination in kept
        ],
    }


def _choose_vhost(data: Mapping[str, Any], vhost: str | None, where: str) -> str:
    """The vhost that is meant; entries without one belong to any."""
    names = _used_vhosts(data, where)
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


def _used_vhosts(data: Mapping[str, Any], where: str) -> set[str]:
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


def _from_exchange(exchange: Exchange) -> dict[str, Any]:
    return {
        "name": exchange.name,
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": _arguments(exchange.arguments, f"exchange '{exchange.name}'"),
    }


def _from_queue(queue: Queue) -> dict[str, Any]:
    return {
        "name": queue.name,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": _arguments(queue.arguments, f"queue '{queue.name}'"),
    }


def _from_binding(binding: Binding) -> dict[str, Any]:
    return {
        "source": binding.source,
        "destination": binding.destination,
        "destination_type": binding.destination_type,
        "routing_key": binding.binding_key,
        "arguments": _arguments(binding.arguments, f"binding from '{binding.source}' to '{binding.destination}'"),
    }


def _arguments(arguments: Mapping[str, Any], whose: str) -> Any:
    for name, value in arguments.items():
        if value is None:
            raise InputError(f"{whose}: argument '{name}' is void, and definitions JSON cannot say so")
    return plain(arguments)
