"""What scripts and routing cases don't reach: plugins' exchanges, transactions, time, consumers' rights.

Each case runs on the embedded broker and on RabbitMQ, where its plugins are enabled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from tests.support.brokers import BROKERS, broker_wire, embedded_url, fresh
from tests.support.programs import PATIENCE
from tests.support.wire import Wire

Basic, Exchange, Queue, Tx = commands.Basic, commands.Exchange, commands.Queue, commands.Tx


@pytest.fixture(params=BROKERS)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    yield from broker_wire(request)


def declare(wire: Wire, **options: Any) -> str:
    """A queue that ends with its connection."""
    name = fresh()
    made = Queue.Declare(queue=name, exclusive=True, **options)
    assert wire.call(1, made).name == "Queue.DeclareOk"
    return name


def exchange(wire: Wire, kind: str, **arguments: Any) -> str:
    """An exchange that ends with its last binding; the test is skipped where the plugin is not enabled."""
    name = fresh("x")
    made = Exchange.Declare(exchange=name, exchange_type=kind, auto_delete=True, arguments=arguments)
    answer = wire.call(1, made)
    if answer.name == "Channel.Close":
        pytest.skip(answer.method.reply_text)
    return name


def publish(wire: Wire, key: str, body: bytes, to: str = "", **properties: Any) -> None:
    wire.publish(1, Basic.Publish(exchange=to, routing_key=key), body, **properties)


def get(wire: Wire, queue: str) -> bytes | None:
    return wire.call(1, Basic.Get(queue=queue, no_ack=True)).body


def test_a_recent_history_exchange_tells_a_newcomer_what_it_missed(wire: Wire) -> None:
    name = exchange(wire, "x-recent-history", **{"x-recent-history-length": 2})
    for body in (b"1", b"2", b"3"):
        publish(wire, "", body, name)
    publish(wire, "", b"not kept", name, headers={"x-recent-history-no-store": True})
    queue = declare(wire)
    wire.call(1, Queue.Bind(queue=queue, exchange=name))
    assert [get(wire, queue) for _ in range(3)] == [b"2", b"3", None]
    publish(wire, "", b"4", name)
    assert get(wire, queue) == b"4"


def test_a_recent_history_exchange_tells_the_queues_behind_an_exchange(wire: Wire) -> None:
    with Wire(wire.url) as other:
        other.open_channel()
        history, behind = exchange(wire, "x-recent-history"), exchange(wire, "headers")
        queue = declare(other)
        other.call(1, Queue.Bind(queue=queue, exchange=behind, arguments={"h": 1}))
        for body, value in ((b"1", 1), (b"2", 2), (b"3", 1)):
            publish(wire, "", body, history, headers={"h": value})
        wire.send(1, Exchange.Bind(destination=behind, source=history))
        close = wire.wait_for("Connection.Close").method
        assert (close.reply_code, close.reply_text) == (541, "INTERNAL_ERROR - could not find queue/exchange ''")
        assert [get(other, queue) for _ in range(2)] == [b"3", None]  # the newest first
        publish(other, "", b"4", history, headers={"h": 1})
        assert get(other, queue) == b"4"  # and yet it's bound


def test_a_recent_history_exchange_remembers_what_came_over_others_and_nothing_else(wire: Wire) -> None:
    first, second, history = exchange(wire, "topic"), exchange(wire, "direct"), exchange(wire, "x-recent-history")
    wire.call(1, Exchange.Bind(destination=second, source=first, routing_key="a.*"))
    wire.call(1, Exchange.Bind(destination=history, source=second, routing_key="a.b"))
    for key in ("a.b", "a.c", "b"):
        publish(wire, key, key.encode(), first)
    queue = declare(wire)
    wire.call(1, Queue.Bind(queue=queue, exchange=history))
    assert [get(wire, queue) for _ in range(2)] == [b"a.b", None]


def test_a_consistent_hash_exchange_chooses_as_rabbitmq_does(wire: Wire) -> None:
    name = exchange(wire, "x-consistent-hash")
    queues = [declare(wire) for _ in range(3)]
    for place, queue in enumerate(queues):
        wire.call(1, Queue.Bind(queue=queue, exchange=name, routing_key=str(place + 1)))
    for number in range(12):
        publish(wire, f"key-{number}", b"%d" % number, name)
    found = {}
    for place, queue in enumerate(queues):
        while (body := get(wire, queue)) is not None:
            found[int(body)] = place
    assert "".join(str(found[number]) for number in range(12)) == CHOSEN


CHOSEN = "212121222002"
"""What RabbitMQ 4.3.6 chose."""


def test_a_rolled_back_acknowledgement_is_none(wire: Wire) -> None:
    queue = declare(wire)
    publish(wire, queue, b"m")
    tag = wire.call(1, Basic.Get(queue=queue)).method.delivery_tag
    wire.call(1, Tx.Select())
    wire.send(1, Basic.Ack(tag))
    wire.call(1, Tx.Rollback())
    wire.send(1, Basic.Ack(tag))
    assert wire.call(1, Tx.Commit()).name == "Tx.CommitOk"
    assert wire.call(1, Basic.Recover(True)).name == "Basic.RecoverOk"
    assert get(wire, queue) is None


def test_a_recent_history_exchange_keeps_what_a_transaction_holds_back(wire: Wire) -> None:
    name, queue = exchange(wire, "x-recent-history"), declare(wire)
    wire.call(1, Tx.Select())
    publish(wire, "", b"m", name)
    wire.call(1, Queue.Bind(queue=queue, exchange=name))
    assert [get(wire, queue) for _ in range(2)] == [b"m", None]


def test_what_a_transaction_published_comes_before_what_it_pushed_out(wire: Wire) -> None:
    queue = declare(wire)
    full = declare(
        wire, arguments={"x-max-length": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
    )
    wire.call(1, Basic.Consume(queue=queue, no_ack=True))
    wire.call(1, Tx.Select())
    publish(wire, full, b"pushed out")
    publish(wire, queue, b"published")
    wire.call(1, Tx.Commit())
    assert [wire.wait_for("Basic.Deliver").body for _ in range(2)] == [b"published", b"pushed out"]


def test_a_transaction_that_a_full_queue_refuses_fails(wire: Wire) -> None:
    queue = declare(wire, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    wire.call(1, Tx.Select())
    publish(wire, queue, b"a")
    publish(wire, queue, b"b")
    close = wire.call(1, Tx.Commit()).method
    assert (close.reply_code, close.reply_text) == (406, "PRECONDITION_FAILED - partial tx completion")


def test_a_queue_nobody_uses_goes(wire: Wire) -> None:
    queue, letters = fresh(), declare(wire)
    wire.call(1, Queue.Declare(queue=queue, arguments={"x-expires": 50}))
    # A marker of the same broker's clock: dead-lettered from a queue of a longer time, it comes afterwards.
    arguments = {"x-message-ttl": 1500, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters}
    publish(wire, declare(wire, arguments=arguments), b"marker")
    wire.call(1, Basic.Consume(queue=letters, no_ack=True))
    wire.wait_for("Basic.Deliver", seconds=PATIENCE)
    close = wire.call(1, Queue.Declare(queue=queue, passive=True)).method
    assert close.reply_code == 404


def test_an_expired_message_reaches_a_waiting_consumer_of_dead_letters(wire: Wire) -> None:
    letters = declare(wire)
    wire.call(1, Basic.Consume(queue=letters, no_ack=True))
    arguments = {"x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters}
    publish(wire, declare(wire, arguments=arguments), b"m")
    arrived = wire.wait_for("Basic.Deliver", seconds=PATIENCE)
    assert arrived.headers["x-death"][0]["reason"] == "expired"


def test_another_connection_stays_out_of_an_exclusive_queue(wire: Wire) -> None:
    queue = declare(wire)
    with Wire(wire.url) as other:
        for method in (
            Basic.Get(queue=queue),
            Basic.Consume(queue=queue),
            Queue.Delete(queue=queue),
            Queue.Purge(queue=queue),
            Queue.Declare(queue=queue, passive=True),
            Queue.Bind(queue=queue, exchange="amq.direct", routing_key="a"),
        ):
            other.open_channel()
            close = other.call(1, method).method
            assert close.reply_code == 405
            assert close.reply_text.startswith(
                f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}'"
            )
            other.send(1, commands.Channel.CloseOk())


FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    # what the refusal says, exchange, properties; in the order in which RabbitMQ looks at them
    ("no exchange", "nosuch", {}),
    ("fast reply consumer does not exist", "", {"reply_to": "amq.rabbitmq.reply-to"}),
    ("invalid expiration", "", {"expiration": "x"}),
    ("unacceptable_type_in_header", "", {"headers": {"CC": "a"}}),
    ("user_id property set to", "", {"user_id": "somebody"}),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_of_a_publications_faults_the_first_is_named(wire: Wire, first: int) -> None:
    text, to, _ = FAULTS[first]
    properties = {name: value for _, _, more in FAULTS[first:] for name, value in more.items()}
    publish(wire, "", b"m", to, **properties)
    assert text in wire.wait_for("Channel.Close").method.reply_text


def test_a_wrong_binding_to_anothers_queue_is_called_wrong(wire: Wire) -> None:
    queue, name = declare(wire), exchange(wire, "x-consistent-hash")
    with Wire(wire.url) as other:
        other.open_channel()
        close = other.call(1, Queue.Bind(queue=queue, exchange=name, routing_key="a")).method
        assert close.reply_text == 'PRECONDITION_FAILED - The binding key must be an integer: <<"a">>'


def test_an_exclusive_queue_ends_with_its_connection(wire: Wire) -> None:
    with Wire(wire.url) as other:
        other.open_channel()
        queue = declare(other)
        other.call(0, commands.Connection.Close(200, "", 0, 0))
    assert wire.call(1, Queue.Declare(queue=queue, passive=True)).method.reply_code == 404


def test_a_direct_reply_that_comes_too_late_is_lost_and_one_to_nobody_returned(wire: Wire) -> None:
    pseudo = "amq.rabbitmq.reply-to"
    queue = declare(wire)
    wire.call(1, Basic.Consume(queue=pseudo, consumer_tag="r", no_ack=True))
    publish(wire, queue, b"request", reply_to=pseudo)
    address = wire.call(1, Basic.Get(queue=queue, no_ack=True)).properties
    assert address is not None
    assert address.reply_to is not None
    wire.call(1, Basic.Cancel("r"))
    wire.publish(1, Basic.Publish(routing_key=address.reply_to, mandatory=True), b"late")
    wire.publish(1, Basic.Publish(routing_key=f"{pseudo}.nobody", mandatory=True), b"lost")
    assert wire.wait_for("Basic.Return").body == b"lost"


@pytest.mark.parametrize("name", ["amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.nobody", "amq.rabbitmq.reply-tox"])
def test_what_only_begins_like_a_reply_address_cannot_be_declared(wire: Wire, name: str) -> None:
    assert wire.call(1, Queue.Declare(queue=name)).method.reply_code in (404, 541)


def test_streams_are_refused_clearly() -> None:
    for url in embedded_url():
        with Wire(url) as wire:
            wire.open_channel()
            made = Queue.Declare(queue="s", durable=True, arguments={"x-queue-type": "stream"})
            close = wire.call(1, made).method
            assert (close.reply_code, close.class_id, close.method_id) == (540, 50, 10)
            assert "use RabbitMQ" in close.reply_text


@pytest.mark.parametrize("kind", ["x-jms-topic", "x-lottery"])
def test_exchanges_that_are_not_there_are_refused(kind: str) -> None:
    for url in embedded_url():
        with Wire(url) as wire:
            wire.open_channel()
            close = wire.call(1, Exchange.Declare(exchange="x", exchange_type=kind)).method
            assert close.reply_code in (406, 540)


def test_a_queue_that_goes_with_its_last_consumer_gives_nothing_back(wire: Wire) -> None:
    """What it has delivered is gone with it, and isn't dead-lettered by the length limit on its way back."""
    dead = declare(wire)
    name = fresh()
    arguments: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-max-length": 0}
    wire.open_channel(2)
    wire.call(2, Queue.Declare(queue=name, auto_delete=True, arguments=arguments))
    wire.call(2, Basic.Consume(queue=name))
    publish(wire, name, b"1")
    assert wire.wait_for("Basic.Deliver").body == b"1"
    wire.call(2, commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
    assert wire.call(1, Queue.Declare(queue=dead, exclusive=True, passive=True)).method.message_count == 0
    assert get(wire, dead) is None
