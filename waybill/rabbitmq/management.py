"""RabbitMQ's management API, typed: what is declared on a live broker, and who consumes it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from waybill.errors import BrokerUnavailable, InputError, NotAllowed, NotFound
from waybill.topology import Binding, Exchange, Queue

# Seconds in which an answer has to begin, and in which it has to be there, however slowly it comes.
TIMEOUT = 10.0
WHOLE_ANSWER = 60.0

# Where RabbitMQ serves it, unless it is told otherwise.
PORTS = {"http": 15672, "https": 15671}

# HTTP status -> the error that it is, where it is one of its own.
REFUSALS = {401: NotAllowed, 403: NotAllowed, 404: NotFound}


@dataclass(frozen=True, slots=True)
class LiveQueue:
    """A queue of GET /api/queues; `messages` is a sample that the broker takes every few seconds."""

    queue: Queue
    messages: int = 0


@dataclass(frozen=True, slots=True)
class LiveBinding:
    """A binding of GET /api/bindings; `properties_key` is its name in that page's own addresses."""

    binding: Binding
    properties_key: str = ""

    @property
    def path(self) -> tuple[str, str, str, str]:
        """What tells it from every other binding of the vhost: its ends, and `properties_key`."""
        kind = "e" if self.binding.destination_type == "exchange" else "q"
        return self.binding.source, kind, self.binding.destination, self.properties_key


@dataclass(frozen=True, slots=True)
class LiveConsumer:
    """A consumer as GET /api/consumers tells it; `connection_name` is `address:port -> address:port`.

    It is empty until the broker has counted its channel, and while that is being closed.
    """

    queue: str
    consumer_tag: str
    prefetch_count: int
    ack_required: bool
    connection_name: str = ""


@cache
def _trust() -> ssl.SSLContext:
    """httpx's own choice of certificates, read once: a client that isn't given them reads them again, for 36 ms."""
    return httpx.create_ssl_context()


class Management:
    """The management API of one vhost.

    Args:
        url: `http://user:password@host:15672`, user and password percent-encoded, with RabbitMQ's
            `management.path_prefix` behind it where it has one.
        vhost: the vhost that the questions are about.

    Raises:
        InputError: the URL can't be used; the message doesn't show it, for a password may be anywhere in it.
    """

    def __init__(self, url: str, vhost: str = "/") -> None:
        try:
            parts = urlsplit(url)
            if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment or "@" in parts.path:
                raise ValueError
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            self._shown = f"{parts.scheme}://{host}:{parts.port or PORTS[parts.scheme]}{parts.path.rstrip('/')}"
            credentials = unquote(parts.username or "guest"), unquote(parts.password or "guest")
            self._http = httpx.Client(base_url=self._shown, auth=credentials, timeout=TIMEOUT, verify=_trust())
        except (ValueError, httpx.InvalidURL):
            raise InputError(
                "the management API's URL cannot be read: expected http://user:password@host:15672, "
                "and `/`, `?`, `#` and `@` in a user or password as %2F, %3F, %23, %40"
            ) from None
        self._vhost = quote(vhost, safe="")

    @property
    def address(self) -> str:
        """`http://host:15672` and the path's prefix, without user and password."""
        return self._shown

    def exchanges(self) -> list[Exchange]:
        return [Exchange(**_only(Exchange, row)) for row in self._get(f"exchanges/{self._vhost}")]

    def queues(self) -> list[LiveQueue]:
        rows = self._get(f"queues/{self._vhost}")
        return [LiveQueue(Queue(**_only(Queue, row)), **_only(LiveQueue, row)) for row in rows]

    def bindings(self) -> list[LiveBinding]:
        rows = self._get(f"bindings/{self._vhost}")
        named = ({**row, "binding_key": row["routing_key"]} for row in rows)
        return [LiveBinding(Binding(**_only(Binding, row)), **_only(LiveBinding, row)) for row in named]

    def consumers(self) -> list[LiveConsumer]:
        return [
            LiveConsumer(**_only(LiveConsumer, {**row, "queue": row["queue"]["name"], **_channel(row)}))
            for row in self._get(f"consumers/{self._vhost}")
        ]

    def unbind(self, binding: LiveBinding) -> bool:
        """Take away one binding, as `bindings` told it; False where it was gone already.

        RabbitMQ's web server takes the key `.` or `..` for a folder, however it is written.
        """
        path = "/".join(quote(name, safe="") for name in binding.path)
        try:
            self._send("DELETE", f"bindings/{self._vhost}/e/{path}")
        except NotFound:
            return False
        return True

    def definitions(self) -> dict[str, Any]:
        """The vhost's exchanges, queues and bindings as RabbitMQ exports them."""
        definitions: dict[str, Any] = self._get(f"definitions/{self._vhost}")
        return definitions

    def import_definitions(self, definitions: Mapping[str, Any]) -> None:
        """Declare in the vhost what a definitions document holds; what is there already stays."""
        self._send("POST", f"definitions/{self._vhost}", definitions)

    def create_vhost(self) -> None:
        """Create the vhost; every user with access to all vhosts may use it."""
        self._send("PUT", f"vhosts/{self._vhost}")

    def delete_vhost(self) -> None:
        """Delete the vhost with all that is in it; its connections are closed by the broker."""
        self._send("DELETE", f"vhosts/{self._vhost}")

    def overview(self) -> dict[str, Any]:
        """What RabbitMQ says of itself: `rabbitmq_version`, `exchange_types`, ..."""
        overview: dict[str, Any] = self._get("overview")
        return overview

    def vhost(self) -> dict[str, Any]:
        """What the vhost is like: `default_queue_type` above all.

        It is looked up in the list of those that the user may see: the vhost's own page is for administrators (4.3.6).
        """
        rows: list[dict[str, Any]] = self._get("vhosts?disable_stats=true")
        name = unquote(self._vhost)
        # The row of a vhost that is being deleted has no name any more.
        vhost = next((row for row in rows if row.get("name") == name), None)
        if vhost is None:
            raise NotFound(f"the management API at {self._shown} shows this user no vhost {name!r}")
        return vhost

    def set_tracing(self, *, is_on: bool) -> None:
        """Switch the vhost's firehose on or off, which an administrator may."""
        self._send("PUT", f"vhosts/{self._vhost}", {"tracing": is_on})

    def publish(self, exchange: str, key: str, headers: Mapping[str, Any], payload: str) -> bool:
        """Publish a message, confirmed; returns whether a queue took it."""
        where = f"exchanges/{self._vhost}/{quote(exchange or 'amq.default', safe='')}/publish"
        message = {"routing_key": key, "properties": {"headers": headers}, "payload": payload}
        answer: dict[str, Any] = json.loads(self._send("POST", where, {**message, "payload_encoding": "string"}))
        return bool(answer["routed"])

    def policies(self) -> list[dict[str, Any]]:
        """The vhost's policies, as they stand there; operators' are others."""
        policies: list[dict[str, Any]] = self._get(f"policies/{self._vhost}")
        return policies

    def operator_policies(self) -> list[dict[str, Any]] | None:
        """The policies that an operator sets above the users'; None where the user may not see them."""
        try:
            policies: list[dict[str, Any]] = self._get(f"operator-policies/{self._vhost}")
        except (NotFound, NotAllowed):
            return None
        return policies

    def deprecated_features(self) -> dict[str, str]:
        """Deprecated feature -> `permitted` or `denied`.

        Empty before RabbitMQ 3.13, which has no such page, and where the user may not see it.
        """
        try:
            return {row["name"]: row["state"] for row in self._get("deprecated-features")}
        except (NotFound, NotAllowed):
            return {}

    def __enter__(self) -> Management:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _get(self, path: str) -> Any:
        body = self._send("GET", path)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BrokerUnavailable(
                f"the management API at {self._shown} answers GET /api/{path} with something that is not JSON"
            ) from error

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        try:
            with self._http.stream(method, f"/api/{path}", json=body) as response:
                response.raise_for_status()
                return _read(response, time.monotonic() + WHOLE_ANSWER)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            kind = REFUSALS.get(status, BrokerUnavailable)
            raise kind(
                f"the management API at {self._shown} answers {method} /api/{path} with "
                f"{status} {error.response.reason_phrase}"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BrokerUnavailable(f"the management API at {self._shown} does not answer: {error}") from error


def _read(response: httpx.Response, deadline: float) -> bytes:
    """The body: httpx's own timeout is for each piece of it."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout(f"the answer is not there after {WHOLE_ANSWER:g} seconds")
    return bytes(body)


def _channel(row: Mapping[str, Any]) -> dict[str, str]:
    """Of a channel that isn't counted yet, or is being closed, RabbitMQ tells nothing, which it writes `[]`."""
    details = row["channel_details"] or {}
    return {"connection_name": details.get("connection_name", "")}


def _only(kind: type, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that this type knows; the API gives many more, and others in each version.

    Raises:
        TypeError: a column holds something else than RabbitMQ would put there.
    """
    # What isn't compared is no column of ours: `policy` is the name of one there.
    known = {field.name: KINDS[str(field.type)] for field in fields(kind) if field.compare and str(field.type) in KINDS}
    # Erlang's empty list may stand for an empty table.
    found = {name: row[name] for name, expected in known.items() if name in row and (expected, row[name]) != (dict, [])}
    for name, value in found.items():
        if not isinstance(value, known[name]):
            raise TypeError(f"{name} {value!r}: expected {known[name].__name__}, got {type(value).__name__}")
    return found


KINDS: Mapping[str, type] = {
    "str": str,
    "bool": bool,
    "int": int,
    "Mapping[str, Any]": dict,
    "DestinationType": str,
}
"""What the columns' annotations stand for in JSON; other fields are no columns."""
