"""Definitions with policies, and what becomes of messages then: on the embedded broker and on RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import amqp
import pytest

from tests.support.brokers import BROKERS
from tests.support.check_live import own_vhost
from tests.support.live import LiveBroker
from waybill.broker import Broker
from waybill.rabbitmq.management import Management
from waybill.routing import Router
from waybill.topology import Message
from waybill.topology.definitions import from_definitions

VHOST = "policies"


def queue(name: str, **arguments: Any) -> dict[str, Any]:
    """A queue of a document; `x_max_length=1` is the argument `x-max-length`."""
    return {"name": name, "durable": True, "auto_delete": False, "arguments": _dashed(arguments)}


def exchange(name: str, kind: str = "direct", **arguments: Any) -> dict[str, Any]:
    flags = {"durable": True, "auto_delete": False, "internal": False}
    return {"name": name, "type": kind, **flags, "arguments": _dashed(arguments)}


def bound(source: str, destination: str, key: str = "") -> dict[str, Any]:
    ends = {"source": source, "destination": destination, "destination_type": "queue"}
    return {**ends, "routing_key": key, "arguments": {}}


def policy(name: str, pattern: str, apply_to: str, priority: int = 0, **definition: Any) -> dict[str, Any]:
    given = {"pattern": pattern, "apply-to": apply_to, "priority": priority}
    return {"name": name, **given, "definition": _dashed(definition)}


def operator(name: str, pattern: str, apply_to: str, **definition: Any) -> dict[str, Any]:
    given = policy(name, pattern, apply_to, **definition)
    return {"component": "operator_policy", "name": given.pop("name"), "value": given}


def _dashed(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in given.items()}


@dataclass(frozen=True)
class Row:
    """A document, what is published, and how many messages are in each queue then.

    Args:
        published: exchange and routing key, each published three times.
        expected: queue -> how many; those that are empty are left out.
    """

    claim: str
    definitions: Mapping[str, Any]
    published: tuple[tuple[str, str], ...]
    expected: Mapping[str, int] = field(default_factory=dict)


REST = [exchange("rest", "fanout"), exchange("other", "fanout")]
KEPT = [queue("rest"), queue("other")]
TO_REST = [bound("rest", "rest"), bound("other", "other")]


def alternates(claim: str, *policies: dict[str, Any], expected: str = "", **arguments: Any) -> Row:
    """What no binding of `work` takes ends in this queue."""
    given = {"exchanges": [exchange("work", **arguments), *REST], "queues": KEPT, "bindings": TO_REST}
    return Row(claim, {**given, "policies": list(policies)}, (("work", "k"),), {expected: 3} if expected else {})


def bounded(claim: str, *policies: dict[str, Any], expected: Mapping[str, int], **arguments: Any) -> Row:
    """What becomes of three messages in the queue `jobs`."""
    given = {"exchanges": REST, "queues": [*KEPT, queue("jobs", **arguments)], "bindings": TO_REST}
    own = [one for one in policies if "component" not in one]
    operators = [one for one in policies if "component" in one]
    return Row(claim, {**given, "policies": own, "parameters": operators}, (("", "jobs"),), expected)


LOST: dict[str, Any] = {"alternate_exchange": "rest"}
ROWS = (
    alternates("an alternate exchange by policy", policy("p", "^work$", "exchanges", **LOST), expected="rest"),
    alternates("a pattern is found anywhere in the name", policy("p", "or", "all", **LOST), expected="rest"),
    alternates("a pattern of another name", policy("p", "^or", "exchanges", **LOST)),
    alternates("a policy for queues is none for exchanges", policy("p", ".*", "queues", **LOST)),
    alternates(
        "the argument before the policy",
        policy("p", "^work$", "exchanges", **LOST),
        expected="other",
        alternate_exchange="other",
    ),
    alternates(
        "the highest priority alone",
        policy("low", "work", "exchanges", 1, **LOST),
        policy("high", "work", "exchanges", 2, alternate_exchange="other"),
        expected="other",
    ),
    alternates(
        "one of the highest priority that sets nothing of it",
        policy("low", "work", "exchanges", 1, **LOST),
        policy("high", "work", "exchanges", 2, max_length=1),
    ),
    Row(
        "an amq. exchange",
        {
            "exchanges": REST,
            "queues": KEPT,
            "bindings": TO_REST,
            "policies": [policy("p", "^amq", "exchanges", **LOST)],
        },
        (("amq.topic", "k"),),
        {"rest": 3},
    ),
    bounded(
        "dead letters by policy",
        policy("p", "jobs", "queues", max_length=1, dead_letter_exchange="rest"),
        expected={"jobs": 1, "rest": 2},
    ),
    bounded(
        "the exchange of the argument with the limit of the policy",
        policy("p", "jobs", "classic_queues", max_length=1, dead_letter_exchange="rest"),
        expected={"jobs": 1, "other": 2},
        x_dead_letter_exchange="other",
    ),
    bounded(
        "the smaller limit: the argument's",
        policy("p", "jobs", "queues", max_length=2),
        expected={"jobs": 1},
        x_max_length=1,
    ),
    bounded(
        "the smaller limit: the policy's",
        policy("p", "jobs", "queues", max_length=1),
        expected={"jobs": 1},
        x_max_length=2,
    ),
    bounded(
        "a time to live by policy",
        policy("p", "jobs", "queues", message_ttl=0, dead_letter_exchange="rest"),
        expected={"rest": 3},
    ),
    bounded(
        "overflow is the argument's",
        policy("p", "jobs", "queues", max_length=1, overflow="drop-head", dead_letter_exchange="rest"),
        expected={"jobs": 1},
        x_overflow="reject-publish",
    ),
    bounded(
        "a policy for quorum queues is none for a classic one",
        policy("p", "jobs", "quorum_queues", max_length=1),
        expected={"jobs": 3},
    ),
    bounded(
        "a setting that the type doesn't know takes the others along",
        policy("p", "jobs", "queues", max_length=1, delivery_limit=3),
        expected={"jobs": 3},
    ),
    bounded(
        "such a policy gives way to one of a lower priority",
        policy("p", "jobs", "queues", 5, max_length=1, delivery_limit=3),
        policy("q", "jobs", "queues", 1, max_length=2),
        expected={"jobs": 2},
    ),
    bounded(
        "a quorum queue knows a delivery limit",
        policy("p", "jobs", "quorum_queues", max_length=1, delivery_limit=3),
        expected={"jobs": 1},
        x_queue_type="quorum",
    ),
    bounded(
        "the operator's smaller limit",
        policy("p", "jobs", "queues", max_length=2, dead_letter_exchange="rest"),
        operator("o", "^jobs$", "queues", max_length=1),
        expected={"jobs": 1, "rest": 2},
    ),
    bounded(
        "the user's smaller limit",
        policy("p", "jobs", "queues", max_length=1),
        operator("o", "^jobs$", "queues", max_length=2),
        expected={"jobs": 1},
    ),
    bounded("an operator policy alone", operator("o", "^jobs$", "queues", max_length=1), expected={"jobs": 1}),
    bounded(
        "the operator's overflow",
        policy("p", "jobs", "queues", max_length=1, overflow="drop-head", dead_letter_exchange="rest"),
        operator("o", "^jobs$", "queues", overflow="reject-publish"),
        expected={"jobs": 1},
    ),
)


@contextmanager
def standing(request: pytest.FixtureRequest, definitions: Mapping[str, Any]) -> Iterator[str]:
    """Either broker with what the definitions hold, at a vhost of its own: its URL."""
    if request.param == "embedded":
        broker = Broker()
        assert broker.node.vhost(VHOST).load(from_definitions({**definitions, "original_vhost_name": VHOST})) == ()
        with broker:
            yield broker.url.removesuffix("%2F") + VHOST
        return
    with own_vhost(request.getfixturevalue("rabbitmq")) as address:
        assert address.management_url is not None
        with Management(address.management_url, address.vhost) as management:
            management.import_definitions(definitions)
        yield address.url


@pytest.fixture(params=BROKERS)
def place(request: pytest.FixtureRequest) -> Any:
    return lambda definitions: standing(request, definitions)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
def test_a_policy_holds(row: Row, place: Any) -> None:
    with place(row.definitions) as url, LiveBroker(url) as broker:
        channel = broker._connection.channel()
        channel.confirm_select()
        for where, key in row.published * 3:
            with suppress(amqp.exceptions.MessageNacked):  # an overflowing queue refuses it
                channel.basic_publish_confirm(amqp.Message("x"), exchange=where, routing_key=key)
        names = [one["name"] for one in row.definitions["queues"]]
        # A get is answered after what reached the queue before, its dead-lettering included.
        for name in reversed(names):
            if (first := channel.basic_get(name)) is not None:
                channel.basic_reject(first.delivery_tag, requeue=True)
        assert {name: count for name in names if (count := channel.queue_purge(name))} == row.expected


@pytest.mark.parametrize("kind", ["quorum", "stream"])
def test_the_default_queue_type_holds_for_what_is_declared_later(kind: str) -> None:
    """As in a vhost of RabbitMQ that was imported with it (4.3.6)."""
    document = {"metadata": {"default_queue_type": kind}, "original_vhost_name": VHOST, "exchanges": []}
    broker = Broker()
    broker.node.vhost(VHOST).load(from_definitions(document))

    def refusal(name: str, **flags: bool) -> str:
        given = {"durable": True, "auto_delete": False, **flags}
        try:
            with LiveBroker(broker.url.removesuffix("%2F") + VHOST) as live:
                live._connection.channel().queue_declare(name, **given)
        except amqp.AMQPError as error:
            return str(error.reply_text)
        return ""

    with broker:
        assert refusal("goes", auto_delete=True) == refusal("mine", exclusive=True) == ""
        assert f"Cannot declare a server-named queue for type rabbit_{kind}_queue" in refusal("")
        assert ("type stream is not part of" in refusal("kept")) == (kind == "stream")
        kinds = {name: queue.declaration.type for name, queue in broker.node.vhost(VHOST).queues.items()}
    assert kinds.get("kept", "stream") == kind


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.claim)
def test_the_router_says_the_same(row: Row) -> None:
    router = Router.of(from_definitions(row.definitions))
    (where, key), *_ = row.published
    reached = set(router.route(Message(where, key)))
    letters = {one for name in reached for one in router.dead_letters(name, Message(where, key), "maxlen").queues}
    assert reached | letters >= set(row.expected)
    if "jobs" not in reached:
        assert reached == set(row.expected)
