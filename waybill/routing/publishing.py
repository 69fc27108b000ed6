"""What a publication carries that decides its way, read and refused as RabbitMQ does.

After rabbit_basic.erl (`header_routes`, `parse_expiration`) and mc_amqpl.erl.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

from waybill.errors import TopologyError
from waybill.topology.queue_arguments import MAX_EXPIRY, type_name


def routing_keys(routing_key: str, headers: Mapping[str, Any]) -> tuple[str, ...]:
    """All routing keys of a message: its own, then those of the headers `CC` and `BCC`.

    Entries of the two that are no text are passed over, as the broker does.

    Raises:
        TopologyError: 406, one of the headers is no array.
    """
    if not headers or ("CC" not in headers and "BCC" not in headers):
        return (routing_key,)
    copies = [key for name in ("CC", "BCC") for key in _copies(name, headers)]
    return tuple(dict.fromkeys([routing_key, *copies]))


def _copies(name: str, headers: Mapping[str, Any]) -> list[str]:
    if name not in headers:
        return []
    value = headers[name]
    if not isinstance(value, (list, tuple)):
        wrong = f'{{unacceptable_type_in_header,"{name}",{type_name(value)}}}'
        raise TopologyError(406, f"invalid message: {wrong}")
    return [key for key in value if isinstance(key, str)]


MAX_DELAY = 2**32 - 1
"""Milliseconds of the longest `x-delay`, Erlang's longest timer; a longer one is as none."""


def delay_of(headers: Mapping[str, Any]) -> int:
    """Milliseconds for which an exchange of type `x-delayed-message` holds a message back, 0 for not at all.

    The header `x-delay` is a number or its digits (rabbit_delayed_message_utils.erl; the plugin isn't in RabbitMQ's
    image, and none of this was run there). What is no number delays nothing here.
    """
    given: Any = headers.get("x-delay")
    is_number = isinstance(given, int | float | Decimal) and not isinstance(given, bool) and isfinite(given)
    if not is_number and not (isinstance(given, str) and re.fullmatch(r"[+-]?[0-9]{1,20}", given)):
        return 0
    delay = int(given)
    return delay if 0 < delay <= MAX_DELAY else 0


def check_expiration(expiration: str) -> int:
    """The milliseconds in a message's `expiration`.

    Raises:
        TopologyError: 406, it is no whole number of them, or too many.
    """
    found = re.match(r"[+-]?[0-9]+", expiration)
    if found is None:
        problem = "no_integer"
    elif found.end() < len(expiration):
        problem = f'{{leftover_string,"{expiration[found.end() :]}"}}'
    elif int(expiration) < 0:
        problem = f"{{value_negative,{int(expiration)}}}"
    elif int(expiration) > MAX_EXPIRY:
        problem = f"{{value_too_large,{int(expiration)}}}"
    else:
        return int(expiration)
    raise TopologyError(406, f"invalid expiration '{expiration}': {problem}")
