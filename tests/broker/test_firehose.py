"""The firehose, byte by byte, on the embedded broker and on RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from struct import pack
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pamqp import commands
from pamqp.common import FieldTable

from tests.support.brokers import BROKERS
from tests.support.wire import Arrived, Wire
from waybill.broker import Broker
from waybill.broker.properties import headers_of
from waybill.testing.vhosts import a_vhost

Basic, Exchange, Queue, Tx = commands.Basic, commands.Exchange, commands.Queue, commands.Tx


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A vhost that is traced."""
    if request.param == "embedded":
        with Broker(tracing=True) as broker:
            yield broker.url
        return
    with a_vhost(request.getfixturevalue("rabbitmq")) as address:
        answer = httpx.put(
            f"{address.management_url}/api/vhosts/{quote(address.vhost, safe='')}", json={"tracing": True}
        )
        assert answer.status_code == httpx.codes.NO_CONTENT
        yield address.url


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    """Who publishes and consumes; channel 1 is open, and so are the queues `q` and `p`."""
    with Wire(url) as made:
        made.open_channel()
        for queue in ("q", "p"):
            made.call(1, Queue.Declare(queue=queue, exclusive=True))
        yield made


@pytest.fixture
def tap(url: str) -> Iterator[Wire]:
    """Who hears the firehose."""
    with Wire(url) as made:
        made.open_channel()
        queue = made.call(1, Queue.Declare(exclusive=True)).method.queue
        made.call(1, Queue.Bind(queue=queue, exchange="amq.rabbitmq.trace", routing_key="#"))
        made.call(1, Basic.Consume(queue=queue, no_ack=True))
        yield made


def text(value: str) -> bytes:
    """A long string as a field's value."""
    return b"S" + pack(">I", len(value)) + value.encode()


def texts(*values: str) -> bytes:
    """An array of them."""
    data = b"".join(map(text, values))
    return b"A" + pack(">I", len(data)) + data


def number(value: int) -> bytes:
    """A 32-bit integer as a field's value."""
    return b"I" + pack(">I", value)


def table(*entries: tuple[str, bytes]) -> bytes:
    """A table as a field's value."""
    data = b"".join(bytes((len(name),)) + name.encode() + value for name, value in entries)
    return b"F" + pack(">I", len(data)) + data


def heard(tap: Wire) -> tuple[str, bytes, dict[str, bytes]]:
    """A copy's key, body and headers, each as its bytes but for whose they are."""
    copy = tap.wait_for("Basic.Deliver")
    assert copy.method.exchange == "amq.rabbitmq.trace"
    assert copy.properties is not None
    assert [name for name, value in copy.properties if value] == ["headers"]
    found = {name: field.raw for name, field in headers_of(copy.raw_header or b"").items()}
    assert list(found) == sorted(found)
    assert found.pop("user") == text("guest")
    for name in ("connection", "node", "vhost"):
        assert found.pop(name).startswith(b"S")
    return copy.method.routing_key, copy.body or b"", found


def publish(wire: Wire, key: str, body: bytes, exchange: str = "", **properties: Any) -> None:
    """Publish on channel 1."""
    wire.publish(1, Basic.Publish(exchange=exchange, routing_key=key), body, **properties)


def consume(wire: Wire, queue: str, **options: Any) -> Arrived:
    """The next message of a queue, by a consumer."""
    wire.call(1, Basic.Consume(queue=queue, **options))
    return wire.wait_for("Basic.Deliver")


NOTHING = table()


def test_a_publication_and_a_delivery_with_every_property(wire: Wire, tap: Wire) -> None:
    publish(
        wire,
        "q",
        b"m",
        content_type="a/b",
        content_encoding="utf-8",
        headers={"z": "last", "CC": ["p"], "a": 1},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        message_id="i",
        timestamp=datetime.fromtimestamp(1_700_000_000, UTC),
        message_type="t",
        user_id="guest",
        app_id="x",
    )
    key, body, found = heard(tap)
    properties = found["properties"]
    headers = table(("CC", texts("p")), ("a", b"b\x01"), ("z", text("last")))
    assert (key, body) == ("publish.", b"m")
    assert properties == table(
        ("app_id", text("x")),
        ("user_id", text("guest")),
        ("type", text("t")),
        ("timestamp", number(1_700_000_000)),
        ("message_id", text("i")),
        ("expiration", text("60000")),
        ("reply_to", text("r")),
        ("correlation_id", text("c")),
        ("priority", number(3)),
        ("delivery_mode", number(2)),
        ("headers", headers),
        ("content_encoding", text("utf-8")),
        ("content_type", text("a/b")),
    )
    assert found == {
        "channel": number(1),
        "exchange_name": text(""),
        "properties": properties,
        "routing_keys": texts("q", "p"),
        "routed_queues": found["routed_queues"],
    }
    assert found["routed_queues"] in (texts("q", "p"), texts("p", "q"))  # RabbitMQ's order is of chance
    consume(wire, "q")
    assert heard(tap) == (
        "deliver.q",
        b"m",
        {
            "channel": number(1),
            "exchange_name": text(""),
            "properties": properties,
            "redelivered": number(0),
            "routing_keys": texts("q", "p"),
        },
    )


def test_a_message_that_reaches_no_queue(wire: Wire, tap: Wire) -> None:
    publish(wire, "nowhere", b"", "amq.topic")
    key, body, found = heard(tap)
    assert (key, body, found["routed_queues"], found["properties"]) == ("publish.amq.topic", b"", texts(), NOTHING)


def test_a_queue_that_is_not_there_is_named_all_the_same(wire: Wire, tap: Wire) -> None:
    publish(wire, "nowhere", b"m")
    key, _, found = heard(tap)
    assert (key, found["routed_queues"]) == ("publish.", texts("nowhere"))


def test_a_redelivery_and_a_get(wire: Wire, tap: Wire) -> None:
    publish(wire, "q", b"m")
    assert heard(tap)[0] == "publish."
    tag = wire.call(1, Basic.Get(queue="q")).method.delivery_tag
    key, _, found = heard(tap)
    assert (key, found["redelivered"]) == ("deliver.q", number(0))
    wire.send(1, Basic.Nack(tag, requeue=True))
    consume(wire, "q")
    key, _, found = heard(tap)
    assert (key, found["redelivered"]) == ("deliver.q", number(1))


def test_keys_of_bcc_are_told_and_the_header_is_not(wire: Wire, tap: Wire) -> None:
    publish(wire, "q", b"m", headers={"BCC": ["p"]})
    told = heard(tap)[2]
    consume(wire, "p")
    delivered = heard(tap)[2]
    for found in (told, delivered):
        assert found["routing_keys"] == texts("q", "p")
        assert found["properties"] == table(("headers", table()))


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_dead_letter_is_seen_where_it_is_delivered(wire: Wire, tap: Wire, kind: str) -> None:
    arguments: FieldTable = {"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    wire.call(1, Queue.Declare(queue="dying", durable=True, arguments=arguments))
    try:
        publish(wire, "dying", b"m")
        assert heard(tap)[0] == "publish."
        wire.send(1, Basic.Reject(consume(wire, "dying").method.delivery_tag, requeue=False))
        assert heard(tap)[0] == "deliver.dying"
        consume(wire, "q")
        key, _, found = heard(tap)
        assert (key, found["routing_keys"]) == ("deliver.q", texts("q"))
        assert b"x-death" in found["properties"]
    finally:
        wire.call(1, Queue.Delete(queue="dying"))


def test_in_a_transaction_a_publication_is_told_before_its_commit(wire: Wire, tap: Wire) -> None:
    wire.call(1, Tx.Select())
    publish(wire, "q", b"m")
    assert heard(tap)[0] == "publish."
    wire.call(1, Tx.Rollback())


def test_a_delivery_by_a_quorum_queue_has_its_counters(wire: Wire, tap: Wire) -> None:
    wire.call(1, Queue.Declare(queue="lasting", durable=True, arguments={"x-queue-type": "quorum"}))
    try:
        publish(wire, "lasting", b"m")
        heard(tap)
        wire.send(1, Basic.Nack(consume(wire, "lasting").method.delivery_tag, requeue=True))
        wire.wait_for("Basic.Deliver")
        assert heard(tap)[2]["properties"] == NOTHING
        assert heard(tap)[2]["properties"] == COUNTED
    finally:
        wire.call(1, Queue.Delete(queue="lasting"))


COUNTED = table(("headers", table(("x-acquired-count", b"l" + pack(">q", 1)))))


def test_nothing_is_told_where_nobody_traces() -> None:
    with Broker() as broker, Wire(broker.url) as wire:
        wire.open_channel()
        queue = wire.call(1, Queue.Declare(exclusive=True)).method.queue
        wire.call(1, Queue.Bind(queue=queue, exchange="amq.rabbitmq.trace", routing_key="#"))
        publish(wire, "nowhere", b"m")
        assert wire.call(1, Basic.Get(queue=queue)).name == "Basic.GetEmpty"
