"""What other clients' own suites and generated scripts found: whose queue it is, names, endings, transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pamqp import commands
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from tests.support.brokers import BROKERS, broker_url, broker_wire, fresh
from tests.support.wire import Address, Wire

Act = Callable[[Any], Any]


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from broker_url(request)


@pytest.fixture
def connect(url: str) -> Iterator[Callable[[], Any]]:
    """Opens connections; they are closed at the end."""
    opened: list[Any] = []

    def connect() -> Any:
        at = Address.of(url)
        login = pika.PlainCredentials(at.user, at.password)
        opened.append(pika.BlockingConnection(pika.ConnectionParameters(at.host, at.port, at.vhost, login)))
        return opened[-1]

    yield connect
    for one in opened:
        if one.is_open:
            one.close()


@pytest.fixture(params=BROKERS)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    yield from broker_wire(request)


def told(act: Callable[[], Any]) -> str:
    """`ok`, or the code and the sentence of the refusal."""
    try:
        act()
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        return f"{error.reply_code} {error.reply_text}"
    return "ok"


RESERVED = ("amq.gen-foo", "amq.gen-", "amq.foo", "amq.")


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_name_is_the_brokers(connect: Callable[[], Any], name: str) -> None:
    """Nor may a client declare the queue again that the broker has named for it."""
    refused = f"403 ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'"
    assert told(lambda: connect().channel().queue_declare(name)) == refused
    own = connect()
    given = own.channel().queue_declare("", exclusive=True).method.queue
    assert told(lambda: own.channel().queue_declare(given, exclusive=True)).startswith("403 ACCESS_REFUSED")


# What another connection does to an exclusive queue that is bound to amq.direct with `k` -> the code
OTHERS: tuple[tuple[str, Callable[[Any, str], Any], str], ...] = (
    ("unbind", lambda channel, queue: channel.queue_unbind(queue, "amq.direct", "k"), "405"),
    ("unbind what isn't bound", lambda channel, queue: channel.queue_unbind(queue, "amq.direct", "z"), "ok"),
    ("unbind from nowhere", lambda channel, queue: channel.queue_unbind(queue, "nosuch", "k"), "ok"),
    ("bind", lambda channel, queue: channel.queue_bind(queue, "amq.direct", "k2"), "405"),
    ("purge", lambda channel, queue: channel.queue_purge(queue), "405"),
    ("delete", lambda channel, queue: channel.queue_delete(queue), "405"),
    ("get", lambda channel, queue: channel.basic_get(queue), "405"),
    ("consume", lambda channel, queue: channel.basic_consume(queue, print), "405"),
    ("look", lambda channel, queue: channel.queue_declare(queue, passive=True), "405"),
)


@pytest.mark.parametrize(("act", "code"), [(act, code) for _, act, code in OTHERS], ids=[name for name, _, _ in OTHERS])
def test_an_exclusive_queue_is_its_connections(connect: Callable[[], Any], act: Any, code: str) -> None:
    owner = connect().channel()
    owner.confirm_delivery()
    queue = owner.queue_declare("", exclusive=True).method.queue
    owner.queue_bind(queue, "amq.direct", "k")
    assert told(lambda: act(connect().channel(), queue)).startswith(code)
    owner.basic_publish("amq.direct", "k", b"mine")
    assert owner.queue_declare(queue, passive=True).method.message_count == 1


# Type, argument and its value -> what the broker says
ARGUMENTS: tuple[tuple[str, str, Any, str], ...] = (
    *(("x-consistent-hash", "hash-header", value, "541 INTERNAL_ERROR") for value in (5, [1], {"a": 1}, None, True)),
    ("x-consistent-hash", "hash-header", "customer", "ok"),
    ("x-recent-history", "x-recent-history-length", 5, "ok"),
    *(
        (
            "x-recent-history",
            "x-recent-history-length",
            value,
            f"406 PRECONDITION_FAILED - Invalid argument {shown}, 'x-recent-history-length' must be a positive integer",
        )
        for value, shown in (
            (0, "0"),
            (-1, "-1"),
            ("5", '<<"5">>'),
            ([1], "[{signedint,1}]"),
            ({"a": 1}, '[{<<"a">>,signedint,1}]'),
            (None, "undefined"),
            (True, "true"),
        )
    ),
)


@pytest.mark.parametrize(("kind", "argument", "value", "said"), ARGUMENTS)
def test_an_argument_of_a_wrong_type(
    connect: Callable[[], Any], kind: str, argument: str, value: Any, said: str
) -> None:
    channel = connect().channel()
    arguments = {argument: value}
    assert told(lambda: channel.exchange_declare(fresh("x"), kind, auto_delete=True, arguments=arguments)) == said


GONE = "506 RESOURCE_ERROR - failed to deliver message: {not_found, {resource,"
PARTIAL = "406 PRECONDITION_FAILED - partial tx completion"


def deleted(channel: Any, _: str, gone: str) -> None:
    channel.queue_delete(gone)


def made_again(channel: Any, _: str, gone: str) -> None:
    channel.queue_delete(gone)
    channel.queue_declare(gone)


def acknowledged_and_deleted(channel: Any, first: str, gone: str) -> None:
    method, _, _ = channel.basic_get(first)
    channel.basic_ack(method.delivery_tag)
    channel.queue_delete(gone)


# What happens between the publication and the commit -> the answer, and how many messages the first queue has
TRANSACTIONS: tuple[tuple[Callable[[Any, str, str], None], str, int], ...] = (
    (deleted, GONE, 2),
    (made_again, PARTIAL, 3),
    (acknowledged_and_deleted, GONE, 2),
)


@pytest.mark.parametrize(("between", "said", "left"), TRANSACTIONS)
def test_a_transaction_whose_queue_is_gone(
    connect: Callable[[], Any], between: Callable[[Any, str, str], None], said: str, left: int
) -> None:
    """In order: what comes before it is delivered, what comes behind it only where the queue is there again."""
    channel, first, gone = connect().channel(), fresh(), fresh()
    for name in (first, gone):
        channel.queue_declare(name)
    channel.basic_publish("", first, b"before")
    channel.tx_select()
    channel.basic_publish("", first, b"a")
    channel.basic_publish("", gone, b"b")
    channel.basic_publish("", first, b"c")
    between(channel, first, gone)
    # Erlang breaks a long term into lines.
    assert " ".join(told(channel.tx_commit).replace(",{", ", {").split()).startswith(said)
    other = connect().channel()
    assert other.queue_declare(first, passive=True).method.message_count == left
    other.queue_delete(first)
    other.queue_delete(gone)


def test_confirms_come_before_a_refusal(wire: Wire) -> None:
    """Three publications to no queue and one that is refused, in one write: the three are confirmed before.

    Of publications to a queue RabbitMQ sends the refusal alone: the queue's word comes too late (6 of 6).
    """
    wire.call(1, commands.Confirm.Select())
    to = [commands.Basic.Publish(routing_key=fresh())] * 3 + [
        commands.Basic.Publish(exchange="nosuch", routing_key="k")
    ]
    wire.send_bytes(b"".join(wire.content_bytes(1, method, b"m") for method in to))
    acknowledged: set[int] = set()
    while (arrived := wire.next()).name == "Basic.Ack":
        last = arrived.method.delivery_tag
        acknowledged |= set(range(1, last + 1)) if arrived.method.multiple else {last}
    assert acknowledged == {1, 2, 3}
    assert (arrived.name, arrived.method.reply_code) == ("Channel.Close", 404)


def test_a_client_that_still_writes_gets_the_answer_to_its_close(wire: Wire) -> None:
    """The broker reads on and leaves it to the client to close the socket, so that nothing is reset."""
    late = wire.content_bytes(1, commands.Basic.Publish(routing_key="nowhere"), b"m")
    wire.send(0, commands.Connection.Close(200, "bye", 0, 0))
    assert wire.next().name == "Connection.CloseOk"
    for _ in range(20):
        wire.send_bytes(late)
    with pytest.raises(TimeoutError):
        wire.read_frame(seconds=0.3)
