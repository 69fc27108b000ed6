"""Methods that ask for no answer get none, unless they are refused. Measured on RabbitMQ 4.3.6, and asked again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pamqp import base, commands

from tests.support.brokers import BROKERS, broker_url, fresh
from tests.support.wire import Wire

Basic, Exchange, Queue = commands.Basic, commands.Exchange, commands.Queue
QUEUE, EXCHANGE, NOBODY = fresh(), fresh("x"), fresh("n")
KIND: dict[str, Any] = {"exchange_type": "fanout", "auto_delete": True}

TAKEN: list[base.Frame] = [
    Queue.Declare(queue=QUEUE, exclusive=True, nowait=True),
    Queue.Bind(queue=QUEUE, exchange=EXCHANGE, nowait=True),
    Queue.Purge(queue=QUEUE, nowait=True),
    Queue.Delete(queue=QUEUE, nowait=True),
    Queue.Delete(queue=NOBODY, nowait=True),
    Exchange.Declare(exchange=EXCHANGE, nowait=True, **KIND),
    Exchange.Bind(destination=EXCHANGE, source="amq.fanout", nowait=True),
    Exchange.Unbind(destination=EXCHANGE, source="amq.fanout", nowait=True),
    Exchange.Delete(exchange=EXCHANGE, nowait=True),
    Exchange.Delete(exchange=NOBODY, nowait=True),
    Basic.Consume(queue=QUEUE, nowait=True),
    Basic.Cancel("nobody", nowait=True),
    commands.Confirm.Select(nowait=True),
]
REFUSED: list[tuple[base.Frame, int]] = [
    (Queue.Declare(queue=QUEUE, exclusive=True, auto_delete=True, nowait=True), 406),
    (Queue.Declare(queue=NOBODY, passive=True, nowait=True), 404),
    (Queue.Bind(queue=QUEUE, exchange=NOBODY, nowait=True), 404),
    (Queue.Purge(queue=NOBODY, nowait=True), 404),
    (Exchange.Declare(exchange=EXCHANGE, exchange_type="topic", nowait=True), 406),
    (Exchange.Bind(destination=EXCHANGE, source=NOBODY, nowait=True), 404),
    (Exchange.Delete(exchange="amq.fanout", nowait=True), 403),
    (Basic.Consume(queue=NOBODY, nowait=True), 404),
]


@pytest.fixture(params=BROKERS)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    for url in broker_url(request):
        with Wire(url) as made:
            made.open_channel()
            made.call(1, Queue.Declare(queue=QUEUE, exclusive=True))
            made.call(1, Exchange.Declare(exchange=EXCHANGE, **KIND))
            yield made
            made.open_channel(2)
            made.call(2, Exchange.Delete(exchange=EXCHANGE))
            made.call(2, Queue.Delete(queue=QUEUE))  # RabbitMQ ends an exclusive queue a little after its connection


@pytest.mark.parametrize("method", TAKEN, ids=lambda method: method.name)
def test_no_answer_where_none_is_asked_for(wire: Wire, method: base.Frame) -> None:
    wire.send(1, method, Basic.Qos())
    assert wire.next().name == "Basic.QosOk"


@pytest.mark.parametrize(("method", "code"), REFUSED, ids=lambda value: getattr(value, "name", str(value)))
def test_a_refusal_all_the_same(wire: Wire, method: base.Frame, code: int) -> None:
    wire.send(1, method, Basic.Qos())
    close = wire.next()
    assert (close.name, close.method.reply_code) == ("Channel.Close", code)
