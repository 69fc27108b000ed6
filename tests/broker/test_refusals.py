"""What RabbitMQ 4.3 refuses of a queue that is there, of a consumer and of a get: asked of both brokers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pamqp import base, commands

from tests.support.brokers import BROKERS, broker_url, fresh
from tests.support.wire import Wire

Basic, Queue = commands.Basic, commands.Queue
REPLIES = "amq.rabbitmq.reply-to"
CLASSIC, QUORUM, SINGLE = fresh(), fresh("quorum"), fresh("single")

DECLARED = Queue.Declare(queue=CLASSIC, exclusive=True)
WITH_QUORUM = Queue.Declare(queue=QUORUM, durable=True, arguments={"x-queue-type": "quorum"})
WITH_SINGLE = Queue.Declare(
    queue=SINGLE, durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True}
)
CONSUMED = Basic.Consume(queue=CLASSIC, consumer_tag="one")

# what is done before, the method that is refused -> the reply code, and a part of the text
REFUSED: tuple[tuple[tuple[base.Frame, ...], base.Frame, int, str], ...] = (
    ((), Queue.Bind(exchange="amq.direct"), 404, "no previously declared queue"),
    ((), Queue.Purge(), 404, "no previously declared queue"),
    ((WITH_QUORUM,), Queue.Delete(queue=QUORUM, if_unused=True), 540, "if-unused flag"),
    ((WITH_QUORUM,), Queue.Delete(queue=QUORUM, if_empty=True), 540, "if-empty flag"),
    ((DECLARED, CONSUMED), Queue.Delete(queue=CLASSIC, if_unused=True), 406, "in use"),
    ((WITH_SINGLE,), Basic.Get(queue=SINGLE), 405, "basic.get operations are not supported"),
    ((), Basic.Consume(queue=REPLIES), 406, "reply consumer cannot acknowledge"),
    ((Basic.Consume(queue=REPLIES, no_ack=True),), Basic.Consume(queue=REPLIES, no_ack=True), 406, "already set"),
    ((DECLARED,), Basic.Consume(queue=CLASSIC, arguments={"x-priority": "9"}), 406, "expected integer"),
    ((DECLARED,), Basic.Consume(queue=CLASSIC, arguments={"x-stream-offset": 0}), 406, "x-stream-offset"),
    ((), Basic.Recover(requeue=False), 540, "requeue=false"),
)


@pytest.fixture(params=BROKERS)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    for url in broker_url(request):
        with Wire(url) as made:
            made.open_channel()
            yield made
        with Wire(url) as other:  # a refusal may have ended the first connection
            other.open_channel()
            for name in (QUORUM, SINGLE):
                other.call(1, Queue.Delete(queue=name))


@pytest.mark.parametrize(("before", "refused", "code", "text"), REFUSED)
def test_what_is_refused(wire: Wire, before: tuple[base.Frame, ...], refused: base.Frame, code: int, text: str) -> None:
    for method in before:
        wire.call(1, method)
    wire.send(1, refused)
    close = wire.wait_for("Channel.Close", "Connection.Close")
    assert close.method.reply_code == code
    assert text in close.method.reply_text


def test_a_queue_that_is_not_empty(wire: Wire) -> None:
    wire.call(1, DECLARED)
    wire.call(1, commands.Confirm.Select())
    wire.publish(1, Basic.Publish(exchange="", routing_key=CLASSIC), b"one")
    wire.expect(Basic.Ack)
    wire.send(1, Queue.Delete(queue=CLASSIC, if_empty=True))
    close = wire.wait_for("Channel.Close")
    assert (close.method.reply_code, "not empty" in close.method.reply_text) == (406, True)
