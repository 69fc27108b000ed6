"""RabbitMQ's definitions JSON, in and out.

Two shapes are read: the whole broker's (`rabbitmqctl export_definitions`, `GET /api/definitions`), where each
entry names its vhost, and one vhost's (`GET /api/definitions/{vhost}`), where none does. Users, policies and
whatever else stands in them is left alone; a file that holds only exchanges, queues and bindings is enough.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from waybill.errors import InputError, UnknownName
from waybill.topology import DEFAULT_EXCHANGE, DEFAULT_VHOST, Binding, Exchange, Queue, Topology
from waybill.tracing import plain

V = TypeVar("V")


def read_definitions(path: str | Path, vhost: str | None = None) -> Topology:
    """The topology in a definitions file.

    Raises:
        InputError: the file can't be read, isn't JSON, or isn't of the shape; in one line with its name.
        TopologyError: RabbitMQ would refuse what stands in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    return from_definitions(data, vhost, where=str(path))


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
        raise InputError(f"{where}: expected an object with exchanges, queues and bindings, got {_kind(data)}")
    chosen = _choose_vhost(data, vhost, where)
    exchanges = _read_all(data, "exchanges", chosen, where, _exchange)
    return Topology(
        (exchange for exchange in exchanges if exchange.name != DEFAULT_EXCHANGE),
        _read_all(data, "queues", chosen, where, _queue),
        (b for b in _read_all(data, "bindings", chosen, where, _binding) if b.source != DEFAULT_EXCHANGE),
        chosen,
    )


def to_definitions(topology: Topology) -> dict[str, Any]:
    """A definitions document that RabbitMQ imports: for its vhost alone and for the broker alike.

    Exclusive queues are left out, with the bindings to them, as RabbitMQ leaves them out: they end with their
    connection.
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
    names: set[str] = {entry["vhost"] for entry, _ in _entries(data, where) if isinstance(entry.get("vhost"), str)}
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


def _entries(data: Mapping[str, Any], where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for section in ("exchanges", "queues", "bindings"):
        yield from _section(data, section, where)


def _section(data: Mapping[str, Any], section: str, where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    entries = data.get(section, [])
    if not isinstance(entries, list):
        raise InputError(f"{where}: {section}: expected a list, got {_kind(entries)}")
    for index, entry in enumerate(entries):
        at = f"{where}: {section}[{index}]"
        if not isinstance(entry, Mapping):
            raise InputError(f"{at}: expected an object, got {_kind(entry)}")
        yield entry, at


def _read_all(data: Mapping[str, Any], section: str, vhost: str, where: str, read: Callable[[_Entry], V]) -> list[V]:
    entries = _section(data, section, where)
    return [read(_Entry(entry, at)) for entry, at in entries if entry.get("vhost", vhost) == vhost]


class _Entry:
    """One object of the document, read field by field."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        self._fields = fields
        self._where = where

    def text(self, name: str, default: str | None = None) -> str:
        value = self._fields.get(name, default)
        if isinstance(value, str):
            return value
        got = "nothing" if name not in self._fields else _kind(value)
        raise InputError(f"{self._where}: {name}: expected text, got {got}")

    def flag(self, name: str, default: bool) -> bool:
        value = self._fields.get(name, default)
        if isinstance(value, bool):
            return value
        raise InputError(f"{self._where}: {name}: expected true or false, got {_kind(value)}")

    def table(self, name: str) -> Mapping[str, Any]:
        value = self._fields.get(name, {})
        if isinstance(value, Mapping):
            return value
        if value == []:  # what an empty table becomes in some of the broker's own exports
            return {}
        raise InputError(f"{self._where}: {name}: expected an object, got {_kind(value)}")

    def refuse(self, name: str, expected: str) -> InputError:
        return InputError(f"{self._where}: {name}: expected {expected}, got {_kind(self._fields[name])}")


def _exchange(entry: _Entry) -> Exchange:
    return Exchange(
        entry.text("name"),
        entry.text("type"),
        entry.flag("durable", True),
        entry.flag("auto_delete", False),
        entry.flag("internal", False),
        entry.table("arguments"),
    )


def _queue(entry: _Entry) -> Queue:
    return Queue(
        entry.text("name"),
        entry.flag("durable", True),
        entry.flag("exclusive", False),
        entry.flag("auto_delete", False),
        entry.table("arguments"),
    )


def _binding(entry: _Entry) -> Binding:
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
        "arguments": plain(exchange.arguments),
    }


def _from_queue(queue: Queue) -> dict[str, Any]:
    return {
        "name": queue.name,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": plain(queue.arguments),
    }


def _from_binding(binding: Binding) -> dict[str, Any]:
    return {
        "source": binding.source,
        "destination": binding.destination,
        "destination_type": binding.destination_type,
        "routing_key": binding.binding_key,
        "arguments": plain(binding.arguments),
    }


def _kind(value: object) -> str:
    """What a JSON value is, with the value where it is short."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    written = json.dumps(value, default=repr)
    return written if len(written) <= 40 else written[:37] + "..."
