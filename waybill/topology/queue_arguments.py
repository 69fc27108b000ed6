"""A queue's arguments: which ones its type knows, what values they take, and RabbitMQ's sentences when not.

After rabbit_amqqueue.erl (`declare_args`, `check_declare_arguments`) and each queue type's `capabilities`, as of
RabbitMQ 4.3. An argument that no type knows (`x-max-prioritty`) is accepted and ignored, there as here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from waybill.errors import TopologyError
from waybill.topology.fields import is_timestamp, seconds
from waybill.topology.values import Queue

MAX_PRIORITY = 255
"""The highest `x-max-priority`: a priority is one octet on the wire."""

MAX_EXPIRY = 315_360_000_000
"""Milliseconds in ten years, the longest TTL or expiry that RabbitMQ takes (`check_expiry`)."""

_BOTH = ("x-max-length", "x-max-length-bytes")

ARGUMENTS_OF: Mapping[str, tuple[str, ...]] = {
    "classic": (
        "x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", *_BOTH,
        "x-max-priority", "x-overflow", "x-queue-mode", "x-queue-version", "x-single-active-consumer",
        "x-queue-type", "x-queue-master-locator", "x-queue-leader-locator",
    ),
    "quorum": (
        "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires", *_BOTH,
        "x-max-in-memory-length", "x-max-in-memory-bytes", "x-overflow", "x-single-active-consumer",
        "x-queue-type", "x-quorum-initial-group-size", "x-delivery-limit", "x-message-ttl",
        "x-queue-leader-locator", "x-consumer-disconnected-timeout", "x-consumer-timeout",
        "x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max",
    ),
    "stream": (
        "x-max-length-bytes", "x-queue-type", "x-max-age", "x-stream-max-segment-size-bytes",
        "x-stream-filter-size-bytes", "x-initial-cluster-size", "x-queue-leader-locator",
    ),
}  # fmt: skip
"""The arguments each type knows, in the order in which RabbitMQ compares them on a second declaration."""

_KNOWN = frozenset(argument for arguments in ARGUMENTS_OF.values() for argument in arguments)


def with_default_type(queue: Queue, default: str) -> Queue:
    """The queue as the broker reads it in a vhost whose default queue type is `default`.

    A queue that names no type is of that type, unless it is transient, exclusive or auto-delete, which none but
    classic queues can be (rabbit_amqqueue.erl, `augment_declare_args`).
    """
    if "x-queue-type" in queue.arguments or queue.exclusive or queue.auto_delete or not queue.durable:
        return queue
    return replace(queue, arguments={**queue.arguments, "x-queue-type": default})


def check_arguments(queue: Queue, where: str) -> None:
    """Refuse what RabbitMQ refuses in a queue's properties and arguments.

    Args:
        where: the queue as sentences name it, `queue 'q' in vhost '/'`.

    Raises:
        TopologyError: 406.
    """
    arguments = queue.arguments
    _check_value("x-queue-type", arguments, where)
    known = ARGUMENTS_OF[queue.type]
    for argument in _CHECKS:
        if argument in known:
            _check_value(argument, arguments, where)
    for argument in sorted(arguments):
        if argument in _KNOWN and argument not in known:
            raise TopologyError(406, f"invalid arg '{argument}' for {where} of queue type rabbit_{queue.type}_queue")
    if queue.type != "classic":
        _check_replicated(queue, where)


def _check_replicated(queue: Queue, where: str) -> None:
    refused = {
        "auto-delete": queue.auto_delete,
        "exclusive-owner": queue.exclusive,
        "non-durable": not queue.durable,
    }
    for wrong in ("auto-delete", "exclusive-owner", "non-durable"):
        if refused[wrong]:
            raise TopologyError(406, f"invalid property '{wrong}' for {where}")


def _check_value(argument: str, arguments: Mapping[str, Any], where: str) -> None:
    if argument not in arguments:
        return
    problem = _CHECKS[argument](arguments[argument], arguments)
    if problem is not None:
        raise TopologyError(406, f"invalid arg '{argument}' for {where}: {problem}")


Check = Callable[[Any, Mapping[str, Any]], str | None]
"""A value and the whole table -> the broker's Erlang term for what is wrong, or None."""


def _integer(value: Any, *, low: int = 0, zero: bool = True, high: int | None = None, term: str = "") -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f'"expected integer, got {type_name(value)}"'
    if value == 0 and not zero:
        return "{value_zero,0}"
    if value < low:
        return f"{{value_negative,{value}}}"
    return f"{{{term},{value}}}" if high is not None and value > high else None


def _natural(value: Any, _: Mapping[str, Any]) -> str | None:
    return _integer(value)


def _positive(value: Any, _: Mapping[str, Any]) -> str | None:
    return _integer(value, zero=False)


def _ttl(value: Any, _: Mapping[str, Any]) -> str | None:
    return _integer(value, high=MAX_EXPIRY, term="value_too_large")


def _expires(value: Any, _: Mapping[str, Any]) -> str | None:
    return _integer(value, zero=False, high=MAX_EXPIRY, term="value_too_large")


def _max_priority(value: Any, _: Mapping[str, Any]) -> str | None:
    return _integer(value, high=MAX_PRIORITY, term="max_value_exceeded")


def _queue_version(value: Any, _: Mapping[str, Any]) -> str | None:
    problem = _integer(value)
    return problem if problem or value == 2 else f"\"unsupported queue version '{value}'\""


def _text(value: Any, _: Mapping[str, Any]) -> str | None:
    return None if isinstance(value, str) else f"{{unacceptable_type,{type_name(value)}}}"


def _boolean(value: Any, _: Mapping[str, Any]) -> str | None:
    return None if isinstance(value, bool) else f"{{unacceptable_type,{type_name(value)}}}"


def _one_of(words: tuple[str, ...], term: str) -> Check:
    def check(value: Any, arguments: Mapping[str, Any]) -> str | None:
        return _text(value, arguments) or (None if value in words else term)

    return check


def _dead_letter_key(value: Any, arguments: Mapping[str, Any]) -> str | None:
    problem = _text(value, arguments)
    return problem or (None if "x-dead-letter-exchange" in arguments else "routing_key_but_no_dlx_defined")


def _max_age(value: Any, arguments: Mapping[str, Any]) -> str | None:
    problem = _text(value, arguments)
    return problem or (None if re.fullmatch(r"0*[1-9][0-9]*[YMDhms]", value) else "invalid_max_age")


def _queue_type(value: Any, arguments: Mapping[str, Any]) -> str | None:
    problem = _text(value, arguments)
    return problem or (None if value in ARGUMENTS_OF else f"\"unsupported queue type '{value}'\"")


_LOCATORS = ("client-local", "balanced", "random", "least-leaders", "min-masters")

_CHECKS: Mapping[str, Check] = {
    "x-expires": _expires,
    "x-message-ttl": _ttl,
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _dead_letter_key,
    "x-dead-letter-strategy": _one_of(("at-most-once", "at-least-once"), "invalid_dlx_strategy"),
    "x-max-length": _natural,
    "x-max-length-bytes": _natural,
    "x-max-in-memory-length": _natural,
    "x-max-in-memory-bytes": _natural,
    "x-max-priority": _max_priority,
    "x-overflow": _one_of(("drop-head", "reject-publish", "reject-publish-dlx"), "invalid_overflow"),
    "x-queue-version": _queue_version,
    "x-single-active-consumer": _boolean,
    "x-consumer-timeout": _natural,
    "x-consumer-disconnected-timeout": _natural,
    "x-queue-type": _queue_type,
    "x-quorum-initial-group-size": _positive,
    "x-max-age": _max_age,
    "x-stream-max-segment-size-bytes": _natural,
    "x-stream-filter-size-bytes": _natural,
    "x-initial-cluster-size": _positive,
    "x-queue-leader-locator": _one_of(_LOCATORS, "invalid_queue_locator_arg"),
}


def type_name(value: Any) -> str:
    """What RabbitMQ calls the AMQP type that clients send `value` as."""
    if isinstance(value, bool):
        return "bool"
    width: str | None = getattr(value, "wire_type", None)  # a number read from the wire knows its own
    if width is not None:
        return width
    if isinstance(value, int):
        return "signedint" if -(2**31) <= value < 2**31 else "long"
    if is_timestamp(value):
        return "timestamp"
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return type(value).__name__


_TYPE_NAMES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "longstr"),
    ((bytes, bytearray, memoryview), "binary"),
    (float, "double"),
    (Decimal, "decimal"),
    (Mapping, "table"),
    ((list, tuple), "array"),
    (type(None), "void"),
)


def written(value: Any) -> str:
    """`value` as Erlang prints it (`~tp`), which is how it stands in RabbitMQ's sentences."""
    if isinstance(value, str):
        encoding = "" if value.isascii() else "/utf8"
        return f'<<"{value}"{encoding}>>' if value else "<<>>"
    if isinstance(value, (bytes, bytearray)):
        return written(bytes(value).decode("utf-8", "replace"))
    if is_timestamp(value):
        return str(seconds(value))
    if isinstance(value, (Mapping, list, tuple)):
        return _written_inside(value)
    return "undefined" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _written_inside(value: Any) -> str:
    """A table or an array, each of its values with the type."""
    if isinstance(value, Mapping):
        entries = (f"{{{written(name)},{type_name(one)},{written(one)}}}" for name, one in value.items())
        return f"[{','.join(entries)}]"
    return f"[{','.join(f'{{{type_name(one)},{written(one)}}}' for one in value)}]"
