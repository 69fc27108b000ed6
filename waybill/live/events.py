"""The firehose's copies, read: who published what where it went, and who was given it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waybill.errors import InputError


@dataclass(frozen=True, slots=True)
class Event:
    """One copy: of a publication, or of a delivery.

    Attributes:
        time: when it was seen, seconds since 1970.
        kind: `publish` or `deliver`.
        keys: all routing keys, those in CC and BCC included.
        queues: of a publication, those that it was routed to; of a delivery, the one.
        connection: `peer host:port -> host:port`, the publisher's or the consumer's.
        properties: of the message, its headers among them.
    """

    time: float
    kind: str
    exchange: str
    keys: tuple[str, ...]
    queues: tuple[str, ...]
    connection: str
    channel: int
    user: str
    is_redelivered: bool
    properties: Mapping[str, Any]
    body: bytes

    @property
    def headers(self) -> Mapping[str, Any]:
        """The message's own."""
        found = self.properties.get("headers")
        return found if isinstance(found, Mapping) else {}

    @property
    def deaths(self) -> list[Mapping[str, Any]]:
        """What its header `x-death` tells, newest first."""
        found = self.headers.get("x-death")
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

    @property
    def identity(self) -> str:
        """What tells its message from others, the same when it is published and each time it is delivered.

        A Celery task's is its id with the number of its retries; without an id the body decides.
        """
        task = self.headers.get("id") or self.properties.get("message_id") or self.properties.get("correlation_id")
        digest = hashlib.blake2b(self.body, digest_size=8).hexdigest()
        return f"{task or ''}/{self.headers.get('retries', '')}/{digest}"


def read_event(key: str, headers: Mapping[str, Any], body: bytes, time: float) -> Event:
    """One copy as a value.

    Args:
        key: the copy's routing key, `publish.<exchange>` or `deliver.<queue>`.
        headers: the copy's.

    Raises:
        InputError: it is no copy of a firehose.
    """
    kind, _, name = key.partition(".")
    if kind not in ("publish", "deliver"):
        raise InputError(f"a message with the routing key {key!r} is no copy of a firehose")
    properties = headers.get("properties")
    routed = headers.get("routed_queues")
    return Event(
        time,
        kind,
        str(headers.get("exchange_name", "")),
        tuple(map(str, headers.get("routing_keys") or ())),
        tuple(map(str, routed or ())) if kind == "publish" else (name,),
        str(headers.get("connection", "")),
        int(headers.get("channel") or 0),
        str(headers.get("user", "")),
        bool(headers.get("redelivered")),
        properties if isinstance(properties, Mapping) else {},
        body,
    )
