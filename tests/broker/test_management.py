"""The management API, asked the same on the embedded broker and on RabbitMQ: statuses, bodies and effects."""

from __future__ import annotations

import json
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pika
import pytest
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ConnectionWrongStateError,
    ProbableAccessDeniedError,
)

from tests.support.programs import PATIENCE, until
from waybill import Broker
from waybill.testing.brokers import Address

Asked = tuple[str, str, Any]
"""Method, path after `/api/` with `{v}` for the vhost, and body."""


class Api:
    """The API of one broker, and a vhost of its own there."""

    def __init__(self, address: Address) -> None:
        self.vhost = f"api-{uuid.uuid4().hex[:12]}"
        self.address = address.with_vhost(self.vhost)
        parts = urlsplit(str(address.management_url))
        self.base = f"http://{parts.hostname}:{parts.port}/api/"
        self._http = httpx.Client(auth=("guest", "guest"), timeout=PATIENCE, verify=False)

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        given = {"json": body} if body is not None else {}
        return self._http.request(method, self.base + path.replace("{v}", self.vhost), **given, **options)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def answer(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body, with the vhost's name and the node's taken out."""
        found = self.ask(method, path, body)
        text = re.sub(r"(rabbit|waybill)@[\w.-]+", "NODE", found.text.replace(self.vhost, "{v}"))
        if not text:
            return found.status_code, found.headers.get("location")
        return found.status_code, httpx.Response(200, text=text).json()

    def connect(self) -> pika.BlockingConnection:
        return pika.BlockingConnection(pika.URLParameters(self.address.url))

    def close(self) -> None:
        self.ask("DELETE", "vhosts/{v}")
        self._http.close()


@pytest.fixture
def api(waybill_broker: Address) -> Iterator[Api]:
    with closing(Api(waybill_broker)) as made:
        assert made.ask("PUT", "vhosts/{v}", {}).status_code == 201
        yield made


DURABLE: dict[str, Any] = {"durable": True}
TOPIC = ("PUT", "exchanges/{v}/news", {"type": "topic", "durable": True})
USA = ("PUT", "queues/{v}/usa", {"durable": True, "arguments": {"x-max-length": 5}})
LOCKED = "cannot obtain exclusive access to locked queue"


def bad(reason: Any) -> tuple[int, Any]:
    return 400, {"error": "bad_request", "reason": reason}


MISSING = 404, {"error": "Object Not Found", "reason": "Not Found"}
REFUSED = 401, {"error": "not_authorised", "reason": "Access refused."}
IN_VHOST = "in vhost '{v}'"

WRITES: tuple[tuple[Asked, tuple[int, Any]], ...] = (
    (TOPIC, (201, None)),
    (TOPIC, (204, None)),
    (
        ("PUT", "exchanges/{v}/news", {"type": "topic", "durable": False}),
        bad(f"inequivalent arg 'durable' for exchange 'news' {IN_VHOST}: received 'false' but current is 'true'"),
    ),
    (("PUT", "exchanges/{v}/none", {"type": "nope"}), bad("unknown exchange type 'nope'")),
    (("PUT", "exchanges/{v}/amq.x", {"type": "topic"}), REFUSED),
    (("PUT", "exchanges/nowhere/x", {"type": "topic"}), (404, {"error": "not_found", "reason": "vhost_not_found"})),
    (("PUT", "exchanges/{v}/within", {"type": "fanout", "internal": True}), (201, None)),
    (USA, (201, None)),
    (USA, (204, None)),
    (
        ("PUT", "queues/{v}/usa", {"durable": True, "arguments": {"x-max-length": 6}}),
        bad(f"inequivalent arg 'x-max-length' for queue 'usa' {IN_VHOST}: received '6' but current is '5'"),
    ),
    (("PUT", "queues/{v}/amq.q", {}), REFUSED),
    (("PUT", "queues/{v}/bad", {"durable": "x"}), bad(["not_boolean", "x"])),
    (("PUT", "queues/{v}/lists", {"arguments": []}), (201, None)),
    (("POST", "bindings/{v}/e/news/q/usa", {"routing_key": "usa.#"}), (201, "usa/usa.%2523")),
    (("POST", "bindings/{v}/e/news/q/usa", {"routing_key": "usa.#"}), (201, "usa/usa.%2523")),
    (("POST", "bindings/{v}/e/news/q/usa", {}), (201, "usa/~")),
    (("POST", "bindings/{v}/e/news/q/usa", {"routing_key": "a b~%/é"}), (201, "usa/a%2Bb%257E%2525%252F%25C3%25A9")),
    (("POST", "bindings/{v}/e/news/e/within", {"routing_key": "*.news"}), (201, "within/%252A.news")),
    (
        ("POST", "bindings/{v}/e/news/q/none", {"routing_key": "x"}),
        (404, {"error": "not_found", "reason": f"no queue 'none' {IN_VHOST}"}),
    ),
    (("POST", "bindings/{v}/e/amq.default/q/usa", {"routing_key": "x"}), REFUSED),
    (("DELETE", "bindings/{v}/e/news/q/usa/none", None), MISSING),
    (("DELETE", "bindings/{v}/e/news/q/usa/usa.%23", None), (204, None)),
    (("DELETE", "bindings/{v}/e/news/q/usa/~", None), (204, None)),
    (("DELETE", "exchanges/{v}/news?if-unused=true", None), bad(f"exchange 'news' {IN_VHOST} in use")),
    (("DELETE", "exchanges/{v}/amq.topic", None), REFUSED),
    (("DELETE", "exchanges/{v}/none", None), MISSING),
    (("DELETE", "queues/{v}/none", None), MISSING),
    (("DELETE", "queues/{v}/none/contents", None), MISSING),
    (("DELETE", "queues/{v}/lists", None), (204, None)),
    (("POST", "queues/{v}/usa", {}), (405, None)),
    (("GET", "queues/nowhere", None), MISSING),
    (("GET", "none", None), MISSING),
)


def test_what_is_declared(api: Api) -> None:
    for asked, expected in WRITES:
        assert api.answer(*asked) == expected, asked
    assert [one["routing_key"] for one in api.get("bindings/{v}/e/news/q/usa")] == ["a b~%/é"]


PUBLISH = "exchanges/{v}/news/publish"
TEXT = {"payload": "hi", "payload_encoding": "string", "properties": {}}
GET = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}


def test_messages(api: Api) -> None:
    for asked in (TOPIC, USA, ("POST", "bindings/{v}/e/news/q/usa", {"routing_key": "usa.#"})):
        api.ask(*asked)
    full = {"durable": True, "arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}}
    api.ask("PUT", "queues/{v}/full", full)
    properties = {
        "headers": {"a": 1, "b": [1, {"c": True}], "f": 1.5, "big": 2**40, "s": "x"},
        "priority": 3,
        "delivery_mode": 2,
        "content_type": "text/plain",
        "timestamp": 5,
        "expiration": "60000",
        "message_id": "m",
        "user_id": "guest",
        "app_id": "a",
        "cluster_id": "c",
        "type": "t",
        "reply_to": "r",
        "correlation_id": "co",
        "content_encoding": "utf-8",
    }
    to_full = {**TEXT, "routing_key": "full"}
    refused = "406 PRECONDITION_FAILED - user_id property set to 'x' but authenticated user was 'guest'"
    for path, body, expected in (
        (PUBLISH, {**TEXT, "routing_key": "usa.a"}, (200, {"routed": True})),
        (PUBLISH, {**TEXT, "routing_key": "eu"}, (200, {"routed": False})),
        (PUBLISH, {**TEXT, "routing_key": "usa.b", "properties": properties}, (200, {"routed": True})),
        (PUBLISH, {**TEXT, "routing_key": "usa.c", "properties": {"headers": {"n": None}}}, bad("null_not_allowed")),
        (PUBLISH, {**TEXT, "routing_key": "x", "properties": {"priority": "x"}}, bad(["not_int", "priority"])),
        (PUBLISH, {**TEXT, "routing_key": "x", "properties": {"type": 5}}, bad(["not_string", "type"])),
        (PUBLISH, {**TEXT, "routing_key": "x", "properties": {"user_id": "x"}}, bad(refused)),
        (PUBLISH, {**TEXT, "routing_key": "x", "payload_encoding": "xx"}, bad(["unsupported_encoding", "xx"])),
        ("exchanges/{v}/none/publish", to_full, (404, {"error": "not_found", "reason": "exchange_not_found"})),
        ("exchanges/{v}/amq.default/publish", to_full, (200, {"routed": True})),
        (
            "exchanges/{v}/amq.default/publish",
            to_full,
            bad("rejected Unable to publish message. Check queue limits."),
        ),
        ("queues/{v}/none/get", GET, (404, {"error": "not_found", "reason": "queue_not_found"})),
        ("queues/{v}/usa/get", {}, bad("[{key_missing,ackmode},{key_missing,count},{key_missing,encoding}]")),
        ("queues/{v}/usa/get", {**GET, "count": "x"}, bad(["not_integer", "x"])),
    ):
        assert api.answer("POST", path, body) == expected, (path, body)
    first = {
        "payload_bytes": 2,
        "redelivered": False,
        "exchange": "news",
        "routing_key": "usa.a",
        "message_count": 1,
        "properties": [],
        "payload": "hi",
        "payload_encoding": "string",
    }
    assert api.answer("POST", "queues/{v}/usa/get", GET) == (200, [first])
    status, both = api.answer("POST", "queues/{v}/usa/get", {**GET, "count": 5, "encoding": "base64"})
    assert (status, [one["redelivered"] for one in both], both[1]["payload"]) == (200, [True, False], "aGk=")
    assert both[1]["properties"] == properties
    for mode, left in (("reject_requeue_true", 2), ("ack_requeue_false", 1), ("reject_requeue_false", 0)):
        assert api.ask("POST", "queues/{v}/usa/get", {**GET, "ackmode": mode}).json()[0]["payload"] == "hi"
        with closing(api.connect()) as connection:
            declared = connection.channel().queue_declare("usa", passive=True)
            assert declared.method.message_count == left, mode


# What RabbitMQ counts by the second or measures of its processes, and names of its node.
ASIDE = frozenset(
    {"garbage_collection", "reductions", "reductions_details", "memory", "message_stats", "idle_since"}
    | {"head_message_timestamp", "user_who_performed_action", "storage_version", "open_files", "cached_segments"}
    | {"pending_raft_commands", "consumer_timeout", "recv_oct", "recv_cnt", "send_oct", "send_cnt", "connected_at"}
    | {"messages_delayed", "messages_dlx", "message_bytes_dlx", "messages_by_priority", "messages_active_priorities"}
    | {"messages_ready_returned", "delayed_retry", "publishers", "consumer_utilisation", "consumer_capacity"}
    | {
        "recv_oct_details",
        "send_oct_details",
        "incoming",
        "outgoing",
        "deliveries",
        "publishes",
        "messages_unconfirmed",
    }
    | {"backing_queue_status", "messages_persistent", "message_bytes_persistent"}
)


def compared(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: compared(one) for name, one in value.items() if name not in ASIDE}
    if not isinstance(value, list):
        return value
    rows = [compared(one) for one in value]  # RabbitMQ keeps no order between bindings
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


READ = (
    "exchanges/{v}/news",
    "exchanges/{v}/within/bindings/destination",
    "queues/{v}?disable_stats=true",
    "queues/{v}/usa/bindings",
    "bindings/{v}",
    "bindings/{v}/e/news/q/usa",
    "policies/{v}",
    "operator-policies/{v}",
    "vhosts/{v}/permissions",
    "queues/{v}?page=1&page_size=2&columns=name",
    "queues/{v}?page=1&name=^u&use_regex=true&columns=name",
    "queues/{v}?sort=name&sort_reverse=true&columns=name",
    "whoami",
    "permissions/%2F/guest",
    "health/checks/alarms",
    "health/checks/node-is-quorum-critical",
    "aliveness-test/{v}",
    "definitions/{v}",
)


def test_every_field(rabbitmq: Address) -> None:
    """The same topology on both, read page by page: names, values and fields are the same but for those set aside."""
    with Broker(management=True) as broker:
        both = Api(Address(broker.url, broker.management_url)), Api(rabbitmq)
        for api in both:
            api.ask("PUT", "vhosts/{v}", {"description": "d", "tags": "a,b"})
            limits = {"pattern": "^u", "apply-to": "queues", "definition": {"max-length": 3}, "priority": 1}
            for asked in (
                TOPIC,
                ("PUT", "exchanges/{v}/within", {"type": "fanout", "internal": True, "durable": True}),
                USA,
                ("PUT", "queues/{v}/quorum", {"durable": True, "arguments": {"x-queue-type": "quorum"}}),
                ("PUT", "queues/{v}/brief", {"auto_delete": True}),
                ("POST", "bindings/{v}/e/news/q/usa", {"routing_key": "usa.#"}),
                ("POST", "bindings/{v}/e/news/q/usa", {"routing_key": ""}),
                ("POST", "bindings/{v}/e/news/e/within", {"routing_key": "*.news"}),
                ("PUT", "policies/{v}/limit", limits),
                ("PUT", "operator-policies/{v}/limit", {**limits, "definition": {"max-length": 2}}),
            ):
                assert api.ask(*asked).status_code in (201, 204), asked
        until(lambda: both[1].get("queues/{v}/usa").get("operator_policy") == "limit")
        for path in READ:
            found = [(status, compared(value)) for status, value in (api.answer("GET", path) for api in both)]
            assert found[0] == found[1], path
        for api in both:
            api.close()


def test_who_is_connected(api: Api) -> None:
    with suppress(ConnectionWrongStateError), closing(api.connect()) as connection:  # which the API has closed
        channel = connection.channel()
        channel.basic_qos(prefetch_count=7)
        channel.queue_declare("own", exclusive=True)
        channel.basic_consume("own", lambda *_: None, consumer_tag="tag", arguments={"x-priority": 2})
        until(lambda: api.get("consumers/{v}"))
        (consumer,) = api.get("consumers/{v}")
        name = consumer["channel_details"]["connection_name"]
        told = {name: consumer[name] for name in ("consumer_tag", "ack_required", "prefetch_count", "active", "queue")}
        assert told == {
            "consumer_tag": "tag",
            "ack_required": True,
            "prefetch_count": 7,
            "active": True,
            "queue": {"name": "own", "vhost": api.vhost},
        }
        assert consumer["arguments"] == {"x-priority": 2}
        until(lambda: [one["name"] for one in api.get("vhosts/{v}/connections")] == [name])
        until(lambda: [one["number"] for one in api.get("vhosts/{v}/channels")] == [1])
        (row,) = api.get("vhosts/{v}/connections")
        assert row["client_properties"]["product"] == "Pika Python Client Library"
        assert (row["user"], row["protocol"], row["state"]) == ("guest", "AMQP 0-9-1", "running")
        for what in ("PUT", "DELETE"):
            status, answer = api.answer(what, "queues/{v}/own", {} if what == "PUT" else None)
            assert status == 400
            assert answer["reason"].startswith(LOCKED)
        path = f"connections/{quote(name, safe='')}"
        assert api.ask("DELETE", path, headers={"X-Reason": "because"}).status_code == 204
        with pytest.raises(ConnectionClosedByBroker, match="CONNECTION_FORCED - because"):
            until(lambda: connection.process_data_events(0.1))
    assert api.answer("DELETE", "connections/none") == MISSING


def test_a_vhost_that_is_deleted_closes_its_connections(api: Api) -> None:
    connection = api.connect()
    assert api.ask("DELETE", "vhosts/{v}").status_code == 204
    told = f"vhost '{api.vhost}' is (deleted|down)"  # RabbitMQ may be so far as to say the second
    with pytest.raises(ConnectionClosedByBroker, match=told):
        until(lambda: connection.process_data_events(0.1))
    assert api.answer("DELETE", "vhosts/{v}") == MISSING


def test_a_policy_on_a_living_queue(api: Api) -> None:
    """What waits above a new bound goes at once, what comes later obeys it, and all is as before when it is gone."""
    with closing(api.connect()) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("usa", durable=True)
        channel.queue_declare("dead", durable=True)

        def count(queue: str) -> int:
            found: int = channel.queue_declare(queue, passive=True).method.message_count
            return found

        for _ in range(5):
            channel.basic_publish("", "usa", b"m")
        policy = {"pattern": "^usa$", "definition": {"max-length": 2, "dead-letter-exchange": ""}, "priority": 1}
        policy["definition"] |= {"dead-letter-routing-key": "dead"}  # type: ignore[operator]
        assert api.ask("PUT", "policies/{v}/short", policy).status_code == 201
        until(lambda: (count("usa"), count("dead")) == (2, 3))
        channel.basic_publish("", "usa", b"m")
        until(lambda: (count("usa"), count("dead")) == (2, 4))
        assert api.ask("DELETE", "policies/{v}/short").status_code == 204
        until(lambda: not api.get("queues/{v}/usa").get("policy"))
        channel.basic_publish("", "usa", b"m")
        assert (count("usa"), count("dead")) == (3, 4)


def test_an_alternate_exchange_by_policy(api: Api) -> None:
    for asked in (
        TOPIC,
        ("PUT", "exchanges/{v}/rest", {"type": "fanout", "durable": True}),
        ("PUT", "queues/{v}/rest", DURABLE),
        ("POST", "bindings/{v}/e/rest/q/rest", {}),
    ):
        assert api.ask(*asked).status_code == 201
    body = {**TEXT, "routing_key": "lost"}
    assert api.answer("POST", PUBLISH, body) == (200, {"routed": False})
    policy = {"pattern": "^news$", "apply-to": "exchanges", "definition": {"alternate-exchange": "rest"}}
    api.ask("PUT", "policies/{v}/rest", policy)
    until(lambda: api.answer("POST", PUBLISH, body) == (200, {"routed": True}))
    api.ask("DELETE", "policies/{v}/rest")
    until(lambda: api.answer("POST", PUBLISH, body) == (200, {"routed": False}))


POLICIES: tuple[tuple[Any, str], ...] = (
    ({"pattern": "x"}, "[{key_missing,definition}]"),
    ({"definition": {"max-length": 1}}, "[{key_missing,pattern}]"),
    ({"pattern": "x", "definition": {}}, "Validation failed\n\nno policy provided\n"),
    (
        {"pattern": "x", "definition": {"nope": 3}},
        'Validation failed\n\n[{<<"nope">>,3}] are not recognised policy settings\n',
    ),
    (
        {"pattern": "x", "definition": {"max-length": "x"}},
        'Validation failed\n\n<<"x">> is not a valid maximum length\n',
    ),
    (
        {"pattern": "x", "definition": {"max-length": 1}, "priority": "x"},
        'Validation failed\n\npriority should be a number, actually was <<"x">>\n',
    ),
)


@pytest.mark.parametrize(("body", "reason"), POLICIES)
def test_a_policy_that_is_refused(api: Api, body: Any, reason: str) -> None:
    assert api.answer("PUT", "policies/{v}/bad", body) == bad(reason)


def test_users(api: Api) -> None:
    name = f"u-{api.vhost}"
    put = ("PUT", f"users/{name}", {"password": "p", "tags": "management"})
    assert [api.answer(*put)[0], api.answer(*put)[0]] == [201, 204]
    assert api.answer("PUT", "users/none", {"password": "p"}) == bad("tags_not_present")
    as_user = {"auth": (name, "p")}
    url = api.address.url.replace("guest:guest@", f"{name}:p@")
    try:
        assert api.ask("GET", "whoami", **as_user).json()["tags"] == ["management"]
        denied = {"error": "not_authorised", "reason": "Not administrator user"}
        assert (api.ask("GET", "users", **as_user).status_code, api.ask("GET", "users", **as_user).json()) == (
            401,
            denied,
        )
        assert api.ask("GET", "queues/{v}", **as_user).json() == {"error": "not_found", "reason": "Not Found"}
        refused = f"access to vhost '{api.vhost}' refused for user '{name}'"
        with pytest.raises(ProbableAccessDeniedError, match=re.escape(refused)):
            pika.BlockingConnection(pika.URLParameters(url))
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        assert api.answer("PUT", f"permissions/{{v}}/{name}", rights)[0] == 201
        assert api.ask("GET", "queues/{v}", **as_user).json() == []
        pika.BlockingConnection(pika.URLParameters(url)).close()
        assert api.answer("DELETE", f"permissions/{{v}}/{name}")[0] == 204
        assert api.answer("DELETE", f"permissions/{{v}}/{name}") == MISSING
    finally:
        assert api.answer("DELETE", f"users/{name}")[0] == 204
    assert api.ask("GET", "whoami", **as_user).status_code == 401


QUEUE = {"name": "in", "durable": True, "auto_delete": False, "arguments": {"x-max-length": 1}}
SHORT = {"name": "p", "pattern": "^i", "definition": {"expires": 60000}, "apply-to": "all", "priority": 0}
BOUND = {"source": "x", "destination": "in", "destination_type": "queue", "routing_key": "a.#", "arguments": {}}
DOCUMENT = {
    "queues": [QUEUE],
    "exchanges": [{"name": "x", "type": "topic", "durable": True, "auto_delete": False, "arguments": {}}],
    "bindings": [BOUND],
    "policies": [SHORT],
}


def test_definitions_in_and_out(api: Api) -> None:
    changed = {**DOCUMENT, "queues": [{**QUEUE, "arguments": {}}]}
    for document in (DOCUMENT, {}, changed):
        assert api.answer("POST", "definitions/{v}", document) == (204, None)
    found = api.get("definitions/{v}")
    assert found["queues"][0]["arguments"] == {"x-max-length": 1, "x-queue-type": "classic"}
    for name in ("exchanges", "bindings", "policies"):
        assert found[name] == DOCUMENT[name]
    assert api.answer("POST", "definitions/nowhere", {}) == (404, {"error": "not_found", "reason": "vhost_not_found"})
    elsewhere = {"queues": [{**QUEUE, "name": "named", "vhost": "elsewhere"}]}  # one vhost's import doesn't ask
    assert api.answer("POST", "definitions/{v}", elsewhere) == (204, None)
    assert {one["name"] for one in api.get("definitions/{v}")["queues"]} == {"in", "named"}
    reason = 'Please create virtual host "nowhere" prior to importing definitions.'
    assert api.answer("POST", "definitions", {"queues": [{**QUEUE, "vhost": "nowhere"}]}) == bad(reason)


def test_the_firehose_is_switched_by_it(api: Api) -> None:
    with closing(api.connect()) as connection:
        channel = connection.channel()
        channel.queue_declare("tap", exclusive=True)
        channel.queue_bind("tap", "amq.rabbitmq.trace", "publish.#")
        assert api.ask("PUT", "vhosts/{v}", {"tracing": True}).status_code == 204
        assert api.get("vhosts/{v}")["tracing"] is True
        channel.basic_publish("", "none", b"seen")
        until(lambda: channel.basic_get("tap", auto_ack=True)[2] == b"seen")
        assert api.ask("PUT", "vhosts/{v}", {"tracing": False}).status_code == 204
        channel.basic_publish("", "none", b"not seen")
        assert channel.basic_get("tap")[0] is None


@pytest.mark.parametrize(
    ("login", "body", "is_asked"),
    [(None, "", True), (("guest", "wrong"), "not_authorized", False), (("none", "x"), "not_authorized", False)],
)
def test_who_may_not_come_in(api: Api, login: Any, body: str, is_asked: bool) -> None:
    answer = httpx.get(api.base + "overview", auth=login, verify=False)
    assert answer.status_code == 401
    assert body in answer.text
    asked = 'Basic realm="RabbitMQ Management"' if is_asked else None
    assert answer.headers.get("www-authenticate") == asked


@pytest.mark.parametrize("body", [b"not json", b"[]", b"{", b"\xff"])
def test_a_body_that_is_none(api: Api, body: bytes) -> None:
    answer = api.ask("PUT", "queues/{v}/q", content=body)
    assert (answer.status_code, answer.json()) == bad("not_json")


# the embedded broker's own


@pytest.fixture
def alone() -> Iterator[Broker]:
    with Broker(management=True) as broker:
        yield broker


def test_a_body_above_the_limit_is_refused_and_the_broker_lives(alone: Broker) -> None:
    url = f"{alone.management_url}/api/queues/%2F/q"
    answer = httpx.put(url, content=b" " * 20_000_001, verify=False, timeout=PATIENCE)
    assert (answer.status_code, answer.json()["reason"]) == (400, "Exceeded HTTP request body size limit")
    deep = b'{"arguments":' + b'{"x":' * 150 + b"1" + b"}" * 151
    assert httpx.put(url, content=deep, verify=False).json()["reason"] == "not_json"
    assert httpx.put(url, content=b"{" * 100_000, verify=False).json()["reason"] == "not_json"
    assert httpx.put(url, json={}, verify=False).status_code == 201


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_a_page_of_another_site_is_refused(alone: Broker, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{alone.management_url}/api/overview", headers=headers, verify=False)
    assert answer.status_code == 403


HOSTILE = (
    b"GET /api/queues/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/queues/%ff%00 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"AMQP\x00\x00\x09\x01",
    b"POST /api/definitions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    b"GET /api/overview HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic \xff\r\n\r\n",
    b"\x00" * 1000,
)


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bytes(alone: Broker, data: bytes) -> None:
    parts = urlsplit(str(alone.management_url))
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=PATIENCE) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass
    assert httpx.get(f"{alone.management_url}/api/whoami", verify=False).json()["name"] == "guest"


def test_only_the_vhosts_that_are_named_are_there() -> None:
    with Broker(vhosts=["shop"], management=True) as broker:
        assert [one["name"] for one in httpx.get(f"{broker.management_url}/api/vhosts", verify=False).json()] == [
            "shop"
        ]
        pika.BlockingConnection(pika.URLParameters(broker.url)).close()
        with pytest.raises(ProbableAccessDeniedError, match="vhost other not found"):
            pika.BlockingConnection(pika.URLParameters(broker.url.replace("shop", "other")))


def test_no_password_is_shown(alone: Broker) -> None:
    assert "guest:" not in f"{alone.address} {alone.management_address} {alone!r}"


def test_it_comes_back_with_the_broker(alone: Broker) -> None:
    url = f"{alone.management_url}/api/queues/%2F/q"
    assert httpx.put(url, json={"durable": True}, verify=False).status_code == 201
    alone.restart()
    assert f"{alone.management_url}/api/queues/%2F/q" == url
    assert httpx.get(url, verify=False).json()["durable"] is True


# What a user may do whose permission is `^c` to configure, `^w` to write, `^r` to read.
MAY: tuple[tuple[Any, str], ...] = (
    (lambda it: it.queue_declare("x"), "configure access to queue 'x'"),
    (lambda it: it.queue_declare("x", passive=True), "configure access to queue 'x'"),
    (lambda it: it.queue_declare("cx"), ""),
    (lambda it: it.exchange_declare("x"), "configure access to exchange 'x'"),
    (lambda it: it.queue_declare("cd", arguments={"x-dead-letter-exchange": "x"}), "read access to queue 'cd'"),
    (lambda it: it.exchange_declare("ca", arguments={"alternate-exchange": "x"}), "read access to exchange 'ca'"),
    (lambda it: it.queue_bind("cx", "amq.topic", "k"), "write access to queue 'cx'"),
    (lambda it: it.queue_bind("wx", "amq.topic", "k"), "read access to exchange 'amq.topic'"),
    (lambda it: it.queue_unbind("cx", "amq.topic", "k"), "write access to queue 'cx'"),
    (lambda it: it.exchange_bind("x", "amq.topic", "k"), "write access to exchange 'x'"),
    (lambda it: it.exchange_delete("x"), "configure access to exchange 'x'"),
    (lambda it: it.basic_get("cx"), "read access to queue 'cx'"),
    (lambda it: it.basic_consume("cx", lambda *_: None), "read access to queue 'cx'"),
    (lambda it: it.queue_purge("cx"), "read access to queue 'cx'"),
    (lambda it: it.queue_delete("x"), "configure access to queue 'x'"),
    (lambda it: it.queue_delete("cx"), ""),
    (lambda it: published(it, "", "cx"), "write access to exchange 'amq.default'"),
    (lambda it: published(it, "amq.topic", "k"), "write access to exchange 'amq.topic'"),
)


def published(channel: Any, exchange: str, key: str) -> None:
    channel.confirm_delivery()
    channel.basic_publish(exchange, key, b"")


def test_what_a_user_may_do(api: Api) -> None:
    name = f"u-{api.vhost}"
    api.ask("PUT", f"users/{name}", {"password": "p", "tags": "management"})
    api.ask("PUT", f"permissions/{{v}}/{name}", {"configure": "^c", "write": "^w", "read": "^r"})
    url = api.address.url.replace("guest:guest@", f"{name}:p@")
    try:
        with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
            for act, refused in MAY:
                channel = connection.channel()
                if not refused:
                    act(channel)
                    continue
                with pytest.raises(ChannelClosedByBroker) as caught:
                    act(channel)
                told = f"ACCESS_REFUSED - {refused} in vhost '{api.vhost}' refused for user '{name}'"
                assert (caught.value.reply_code, caught.value.reply_text) == (403, told)
            answer = api.ask("PUT", "queues/{v}/x", {}, auth=(name, "p"))
            assert answer.status_code == 401
    finally:
        api.ask("DELETE", f"users/{name}")
