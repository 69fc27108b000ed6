"""The clients that people use, each doing what it is used for: py-amqp under Kombu, pika twice, aio-pika.

Each case runs on the embedded broker and on RabbitMQ.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import aio_pika
import pika
import pika.exceptions
import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue
from pika.adapters.asyncio_connection import AsyncioConnection

from tests.support.brokers import BROKERS, broker_url, embedded_url, fresh
from tests.support.programs import PATIENCE


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from broker_url(request)


# Kombu over py-amqp


def test_kombu_publishes_and_consumes(url: str) -> None:
    name = fresh()
    queue = Queue(name, Exchange(name, type="topic"), routing_key="a.#", auto_delete=True)
    got: list[tuple[Any, Any]] = []
    with Connection(url) as connection, connection.channel() as channel:
        queue(channel).declare()
        producer = Producer(channel)
        for number in range(5):
            producer.publish({"n": number}, exchange=name, routing_key=f"a.{number}", headers={"h": number})

        def take(body: Any, message: Any) -> None:
            got.append((body, message.headers["h"]))
            message.ack()

        with Consumer(channel, [queue], callbacks=[take], prefetch_count=2):
            while len(got) < 5:
                connection.drain_events(timeout=PATIENCE)
        Exchange(name)(channel).delete()
    assert got == [({"n": number}, number) for number in range(5)]


def test_kombu_hears_of_an_unroutable_message_and_of_a_lost_exchange(url: str) -> None:
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        producer = Producer(connection.channel())
        with pytest.raises(connection.channel_errors, match="NO_ROUTE"):
            producer.publish({}, exchange="", routing_key=fresh(), mandatory=True)
        with pytest.raises(connection.channel_errors, match="no exchange"):
            producer.publish({}, exchange=fresh("x"), routing_key="a")


def test_kombu_reconnects_by_heartbeat_settings(url: str) -> None:
    with Connection(url, heartbeat=2) as connection:
        connection.connect()
        assert connection.connection.heartbeat == 2
        connection.heartbeat_check()


# pika, blocking


@pytest.fixture
def blocking(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    yield connection
    if connection.is_open:
        connection.close()


def test_pika_confirms_and_returns(blocking: Any) -> None:
    channel = blocking.channel()
    channel.confirm_delivery()
    name = channel.queue_declare("", exclusive=True).method.queue
    assert name.startswith("amq.gen-")
    channel.basic_publish("", name, b"kept", mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", fresh(), b"lost", mandatory=True)
    method, _, body = channel.basic_get(name)
    assert (body, method.message_count) == (b"kept", 0)
    channel.basic_ack(method.delivery_tag)


def test_pika_is_nacked_by_a_full_queue(blocking: Any) -> None:
    channel = blocking.channel()
    channel.confirm_delivery()
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    name = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
    channel.basic_publish("", name, b"a")
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", name, b"b")


def test_pika_consumes_with_prefetch_and_requeues(blocking: Any) -> None:
    channel = blocking.channel()
    name = channel.queue_declare("", exclusive=True).method.queue
    for number in range(4):
        channel.basic_publish("", name, b"%d" % number)
    channel.basic_qos(prefetch_count=1)
    got: list[tuple[bytes, bool]] = []
    for method, _, body in channel.consume(name, inactivity_timeout=PATIENCE):
        got.append((body, method.redelivered))
        if len(got) == 1:
            channel.basic_nack(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)
        if len(got) == 5:
            break
    channel.cancel()
    assert got == [(b"0", False), (b"0", True), (b"1", False), (b"2", False), (b"3", False)]


def test_pika_is_told_that_its_queue_is_gone(blocking: Any) -> None:
    channel = blocking.channel()
    name = channel.queue_declare(fresh()).method.queue
    cancelled: list[str] = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(name, lambda *_: None)
    blocking.channel().queue_delete(name)
    blocking.process_data_events(time_limit=PATIENCE) if not cancelled else None
    assert cancelled == [tag]


def test_pika_rpc_over_direct_reply_to(blocking: Any) -> None:
    server, client = blocking.channel(), blocking.channel()
    name = server.queue_declare("", exclusive=True).method.queue

    def answer(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish("", properties.reply_to, body.upper())
        channel.basic_ack(method.delivery_tag)

    server.basic_consume(name, answer)
    replies: list[bytes] = []
    client.basic_consume("amq.rabbitmq.reply-to", lambda *given: replies.append(given[3]), auto_ack=True)
    client.basic_publish("", name, b"hello", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    while not replies:
        blocking.process_data_events(time_limit=PATIENCE)
    assert replies == [b"HELLO"]


def test_pika_finds_a_reply_address_from_outside_and_never_a_message_in_it(blocking: Any) -> None:
    client = blocking.channel()
    name = client.queue_declare("", exclusive=True).method.queue
    client.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)
    client.basic_publish("", name, b"hello", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    _, properties, _ = next(client.consume(name, auto_ack=True, inactivity_timeout=PATIENCE))
    address = properties.reply_to

    other = blocking.channel()
    assert other.queue_declare(address, passive=True).method.queue == address
    assert other.queue_purge(address).method.message_count == 0
    for refused in (other.queue_bind, blocking.channel().queue_unbind):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match=r"a volatile .direct reply-to. queue") as bound:
            refused(address, "amq.direct", "k")
        assert bound.value.reply_code == 403
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as own:
        client.queue_declare(address, passive=True)
    assert own.value.reply_code == 404
    reader, client = blocking.channel(), blocking.channel()
    client.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)
    client.basic_publish("", name, b"hello", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    _, properties, _ = next(client.consume(name, auto_ack=True, inactivity_timeout=PATIENCE))
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match=r"basic\.get not supported by volatile") as got:
        reader.basic_get(properties.reply_to)
    assert got.value.reply_code == 540


def test_pika_transactions(blocking: Any) -> None:
    channel = blocking.channel()
    name = channel.queue_declare("", exclusive=True).method.queue
    channel.tx_select()
    channel.basic_publish("", name, b"a")
    assert channel.queue_declare(name, passive=True).method.message_count == 0
    channel.tx_rollback()
    channel.basic_publish("", name, b"b")
    channel.tx_commit()
    assert channel.basic_get(name, auto_ack=True)[2] == b"b"


def test_pika_dead_letters(blocking: Any) -> None:
    channel = blocking.channel()
    dead = channel.queue_declare("", exclusive=True).method.queue
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-message-ttl": 0}
    name = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
    channel.basic_publish("", name, b"late")
    for method, properties, body in channel.consume(dead, inactivity_timeout=PATIENCE):
        death = properties.headers["x-death"][0]
        assert (body, death["reason"], death["queue"], death["count"]) == (b"late", "expired", name, 1)
        channel.basic_ack(method.delivery_tag)
        break
    channel.cancel()


# pika on asyncio


def test_pika_on_asyncio_moves_a_large_message(url: str) -> None:
    body = bytes(range(256)) * 2000
    got = asyncio.run(_through_pika(url, body))
    assert got == body


async def _through_pika(url: str, body: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()
    name = fresh()

    def on_channel(channel: Any) -> None:
        channel.queue_declare(name, exclusive=True, callback=lambda _: start(channel))

    def start(channel: Any) -> None:
        channel.basic_consume(name, lambda *given: done.set_result(given[3]), auto_ack=True)
        channel.basic_publish("", name, body)

    AsyncioConnection(
        pika.URLParameters(url),
        on_open_callback=lambda connection: connection.channel(on_open_callback=on_channel),
        on_open_error_callback=lambda _, error: done.set_exception(error),
        custom_ioloop=loop,
    )
    return await asyncio.wait_for(done, PATIENCE)


# aio-pika


def test_aio_pika_publishes_and_iterates(url: str) -> None:
    async def run() -> list[bytes]:
        connection = await aio_pika.connect_robust(url)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=2)
            exchange = await channel.declare_exchange(fresh("x"), aio_pika.ExchangeType.HEADERS, auto_delete=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, arguments={"x-match": "any", "kind": "wanted"})
            for kind in ("wanted", "other", "wanted"):
                message = aio_pika.Message(kind.encode(), headers={"kind": kind}, priority=1)
                await exchange.publish(message, routing_key="", mandatory=False)
            got: list[bytes] = []
            async with queue.iterator(timeout=PATIENCE) as messages:
                async for arrived in messages:
                    async with arrived.process():
                        got.append(arrived.body)
                    if len(got) == 2:
                        return got
        return []

    assert asyncio.run(run()) == [b"wanted", b"wanted"]


def test_aio_pika_sees_a_returned_message(url: str) -> None:
    async def run() -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel(on_return_raises=True)
            with pytest.raises(aio_pika.exceptions.DeliveryError):
                await channel.default_exchange.publish(aio_pika.Message(b"lost"), routing_key=fresh(), mandatory=True)

    asyncio.run(run())


def test_many_brokers_live_in_one_process() -> None:
    from waybill.broker import Broker

    with Broker() as one, Broker() as two:
        assert one.port != two.port
        with Connection(one.url) as connection:
            connection.channel().queue_declare("only-here", durable=False)
        with Connection(two.url) as connection, pytest.raises(connection.channel_errors, match="no queue"):
            connection.channel().queue_declare("only-here", passive=True)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", one.port))


def test_the_broker_runs_on_a_loop_of_the_tests_own() -> None:
    from waybill.broker import Broker

    async def run() -> bytes:
        async with Broker() as broker:
            connection = await aio_pika.connect(broker.url)
            async with connection:
                channel = await connection.channel()
                queue = await channel.declare_queue(exclusive=True)
                await channel.default_exchange.publish(aio_pika.Message(b"hi"), routing_key=queue.name)
                message = await queue.get(no_ack=True, timeout=PATIENCE)
                return bytes(message.body)

    assert asyncio.run(run()) == b"hi"


def test_vhosts_are_made_when_they_are_opened() -> None:
    for url in embedded_url():
        root = url.rpartition("/")[0]
        with Connection(f"{root}/one") as one, Connection(f"{root}/two") as two:
            one.channel().queue_declare("q", durable=False)
            with pytest.raises(two.channel_errors, match="no queue 'q' in vhost 'two'"):
                two.channel().queue_declare("q", passive=True)
