"""Two declarations of one name: RabbitMQ's comparison and its sentence, in one place for all who compare.

The rules follow rabbit_exchange.erl and rabbit_amqqueue.erl (`assert_equivalence`), the wording rabbit_misc.erl
(`assert_args_equivalence`). Arguments that aren't listed for the type of the thing are never compared, nor are
policies: a policy changes what a queue does, not how it was declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from waybill.errors import TopologyError
from waybill.topology.fields import field_key
from waybill.topology.queue_arguments import ARGUMENTS_OF, type_name, written
from waybill.topology.values import Exchange, Queue

_BARE_ATOM = re.compile(r"[a-z][A-Za-z0-9_@]*")

LOCKED = (
    "cannot obtain exclusive access to locked {}. It could be originally declared on another connection or the "
    "exclusive property value does not match that of the original declaration."
)


def check_same_exchange(current: Exchange, new: Exchange, where: str) -> None:
    """Refuse a second declaration of an exchange that isn't the first again.

    Args:
        where: the exchange as sentences name it, `exchange 'x' in vhost '/'`.

    Raises:
        TopologyError: 406, for the first difference in RabbitMQ's order.
    """
    _check_same("type", where, _atom(current.type), _atom(new.type))
    for field in ("durable", "auto_delete", "internal"):
        _check_same(field, where, getattr(current, field), getattr(new, field))
    _check_same_argument("alternate-exchange", where, current.arguments, new.arguments)


def check_same_queue(current: Queue, new: Queue, where: str) -> None:
    """As `check_same_exchange`, for queues; 405 where one is exclusive and the other isn't."""
    if current.exclusive != new.exclusive:
        raise TopologyError(405, LOCKED.format(where))
    # An exclusive queue is never durable, whatever its declaration says (rabbit_channel.erl).
    _check_same("durable", where, _is_kept(current), _is_kept(new))
    _check_same("auto_delete", where, current.auto_delete, new.auto_delete)
    # A plugin's type, that of an MQTT client's queue for one, has arguments of its own that no AMQP client sets.
    for argument in ARGUMENTS_OF.get(current.type, ("x-queue-type",)):
        _check_same_argument(argument, where, _typed(current), _typed(new))


def _is_kept(queue: Queue) -> bool:
    return queue.durable and not queue.exclusive


def _typed(queue: Queue) -> Mapping[str, Any]:
    # The broker writes the default type into the arguments before it compares (`augment_declare_args`).
    return {"x-queue-type": "classic", **queue.arguments}


def _check_same(field: str, where: str, current: Any, new: Any) -> None:
    if current != new:
        _refuse(field, where, _plain(current), _plain(new))


def _check_same_argument(argument: str, where: str, current: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """The widths of integers are no difference."""
    if argument not in current and argument not in new:
        return
    if argument in current and argument in new:
        if field_key(current[argument]) != field_key(new[argument]):
            _refuse(argument, where, _plain(current[argument]), _plain(new[argument]))
        return
    _refuse(argument, where, _with_type(argument, current), _with_type(argument, new))


def _refuse(argument: str, where: str, current: str, new: str) -> None:
    text = f"inequivalent arg '{argument}' for {where}: received {new} but current is {current}"
    raise TopologyError(406, text, argument)


def _atom(name: str) -> str:
    # A type is an atom to RabbitMQ, and Erlang writes one that is no bare word in quotes of its own.
    return name if _BARE_ATOM.fullmatch(name) else f"'{name}'"


def _plain(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else f"'{written(value)}'"


def _with_type(argument: str, arguments: Mapping[str, Any]) -> str:
    if argument not in arguments:
        return "none"
    value = arguments[argument]
    return f"the value {_plain(value)} of type '{type_name(value)}'"
