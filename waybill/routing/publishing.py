"""What a publication carries that decides its way, read and refused as RabbitMQ does.

After rabbit_basic.erl (`header_routes`, `parse_expiration`) and mc_amqpl.erl.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
