"""RabbitMQ's definitions JSON, in and out.

Two shapes are read: the whole broker's (`rabbitmqctl export_definitions`, `GET /api/definitions`), where each
entry names its vhost, and one vhost's (`GET /api/definitions/{vhost}`), where none does. Users, policies and
whatever else stands in them is left alone; a file that holds only exchanges, queues and bindings is enough.

RabbitMQ's exports have a gap: exclusive queues and internal exchanges are left out, the bindings to them are
not. A queue missing from an export is therefore read as an exclusive one; a missing exchange is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from waybill.errors import InputError, UnknownName
from waybill.topology import DEFAULT_EXCHANGE, DEFAULT_VHOST, PREDECLARED, Binding, Exchange, Queue, Topology
from waybill.topology.documents import MAX_NESTING, Entry, entries_of, is_too_deep, kind_of
from waybill.topology.fields import plain

V = TypeVar("V")


def read_definitions(path: str | Path, vhost: str | None = None) -> Topology:
    """The topology in a definitions file.

    Raises:
        InputError: the file can't be read, isn't JSON, or isn't of the shape; in one line with its name.
        TopologyError: RabbitMQ would refuse what stands in it.
    """
    return from_definitions(read_document(path), vhost, where=str(path))


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
    chosen = _choose_vhost(data, vhost, where)
    exchanges = [x for x in _read_all(data, "exchanges", chosen, where, _exchange) if x.name != DEFAULT_EXCHANGE]
    queues = _read_all(data, "queues", chosen, where, _queue)
    bindings = [b for b in _read_all(data, "bindings", chosen, where, _binding) if b.source != DEFAULT_EXCHANGE]
    if "rabbitmq_version" in data or "rabbit_version" in data:
        _refuse_internal(exchanges, bindings, where)
        queues += _exclusive(queues, bindings)
    return Topology(exchanges, queues, bindings, chosen)


def all_topologies(data: object, *, where: str = "definitions") -> list[Topology]:
    """The topologies of all vhosts in a definitions document; errors as of `from_definitions`."""
    names: list[str] = sorted(_used_vhosts(data, where)) if isinstance(data, Mapping) else []
    return [from_definitions(data, name, where=where) for name in names] or [from_definitions(data, where=where)]


def left_out(data: object) -> list[str]:
    """What a definitions document holds that would change a message's way and is no part of a topology, in words."""
    sections = ("policies", "parameters")  # federation upstreams and shovels are parameters
    held = data if isinstance(data, Mapping) else {}
    return [f"{name} ({len(held[name])})" for name in sections if isinstance(held.get(name), list) and held[name]]


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


def _entries(data: Mapping[str, Any], where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for section in ("exchanges", "queues", "bindings"):
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


def _binding(entry: Entry) -> Binding:
    kind = entry.text("destination_type", "queue")
    if kind not in ("queue", "exchange"):
        raise entry.refuse("destination_type", '"queue" or "exchange"')
    return Binding(
        entry.text("source"),
        entry.text("destination"),
        entry.text("routing_key", ""),
        entry.table("arguments"),
        cast(Literal["queue", "exchange"], kind),
    )


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
