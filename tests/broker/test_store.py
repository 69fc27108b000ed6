"""A broker with a file: what is durable is there again, in the order and with the times that it had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from tests.support.wire import Wire
from waybill.broker import Broker
from waybill.errors import InputError

DECLARE = commands.Queue.Declare
PUBLISH = commands.Basic.Publish


def opened(broker: Broker) -> Wire:
    """A client, its channel 1 open and confirming."""
    wire = Wire(broker.url)
    wire.open_channel()
    wire.call(1, commands.Confirm.Select())
    return wire


def got(wire: Wire, queue: str) -> list[tuple[bytes | None, bool]]:
    """All that is in a queue: body, and whether it was delivered before."""
    found = []
    while (one := wire.call(1, commands.Basic.Get(queue=queue, no_ack=True))).name == "Basic.GetOk":
        found.append((one.body, bool(one.method.redelivered)))
    return found


def test_what_is_durable_is_there_again(tmp_path: Path) -> None:
    file = tmp_path / "broker.json"
    with Broker(file=file) as broker, opened(broker) as wire:
        wire.call(1, commands.Exchange.Declare(exchange="news", exchange_type="topic", durable=True))
        wire.call(1, commands.Exchange.Declare(exchange="gone"))
        wire.call(1, DECLARE(queue="classic", durable=True, arguments={"x-max-priority": 5}))
        wire.call(1, DECLARE(queue="quorum", durable=True, arguments={"x-queue-type": "quorum"}))
        wire.call(1, DECLARE(queue="transient"))
        for exchange in ("news", "gone"):
            wire.call(1, commands.Queue.Bind(queue="quorum", exchange=exchange, routing_key="#"))
        for body, priority, mode in ((b"low", 1, 2), (b"high", 5, 2), (b"lost", 5, 1), (b"low again", 1, 2)):
            wire.publish(1, PUBLISH(routing_key="classic"), body, priority=priority, delivery_mode=mode)
            wire.wait_for("Basic.Ack")
        wire.publish(1, PUBLISH(exchange="news", routing_key="a"), b"first", headers={"CC": ["b"]})
        wire.wait_for("Basic.Ack")
        assert wire.call(1, commands.Basic.Get(queue="classic")).body == b"high"
    for _ in range(2):  # and once more, from what was written of what was read
        with Broker(file=file):
            pass
    with Broker(file=file) as broker, opened(broker) as wire:
        assert got(wire, "classic") == [(b"high", True), (b"low", False), (b"low again", False)]
        assert got(wire, "quorum") == [(b"first", False)]
        wire.publish(1, PUBLISH(exchange="news", routing_key="x"), b"bound")
        wire.wait_for("Basic.Ack")
        assert got(wire, "quorum") == [(b"bound", False)]
        assert broker.node.memory.held == 0
        assert wire.call(1, DECLARE(queue="transient", passive=True)).method.reply_code == 404
        wire.send(1, commands.Channel.CloseOk())
        wire.open_channel()
        assert wire.call(1, commands.Exchange.Declare(exchange="gone", passive=True)).method.reply_code == 404


def test_a_dead_letter_keeps_its_history_and_an_expiry_its_time(tmp_path: Path) -> None:
    file = tmp_path / "broker.json"
    with Broker(file=file) as broker, opened(broker) as wire:
        wire.call(1, DECLARE(queue="dead", durable=True))
        arguments: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        wire.call(1, DECLARE(queue="q", durable=True, arguments=arguments))
        for body, expiration in ((b"rejected", None), (b"expires", "100000"), (b"stays", "10000000")):
            properties = {} if expiration is None else {"expiration": expiration}
            wire.publish(1, PUBLISH(routing_key="q"), body, delivery_mode=2, **properties)
            wire.wait_for("Basic.Ack")
        tag = wire.call(1, commands.Basic.Get(queue="q")).method.delivery_tag
        wire.send(1, commands.Basic.Reject(tag, requeue=False))
        wire.call(1, DECLARE(queue="q", passive=True))
    # As if a thousand seconds had passed while no broker ran.
    document = json.loads(file.read_text())
    for entry in document["vhosts"][0]["messages"]["q"]:
        entry["expires"] -= 1000
    file.write_text(json.dumps(document))
    with Broker(file=file) as broker, opened(broker) as wire:
        assert got(wire, "q") == [(b"stays", False)]
        dead = [wire.call(1, commands.Basic.Get(queue="dead", no_ack=True)) for _ in range(2)]
        assert {(one.body, one.headers["x-death"][0]["reason"]) for one in dead} == {
            (b"rejected", "rejected"),
            (b"expires", "expired"),
        }


def test_a_restart_with_nothing_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "broker.json"
    with Broker(file=file) as broker:
        with opened(broker) as wire:
            wire.call(1, DECLARE(queue="q", durable=True))
        broker.restart(keep="nothing")
    with Broker(file=file) as broker, opened(broker) as wire:
        assert wire.call(1, DECLARE(queue="q", passive=True)).method.reply_code == 404


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[]", "expected what a waybill broker has saved, version 1"),
        ('{"waybill": 1}', "KeyError('vhosts')"),
        ('{"waybill": 1, "vhosts": [{"definitions": {"queues": []}, "messages": {"q": [{}]}}]}', "KeyError('q')"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "broker.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"broker\.json: ") as caught, Broker(file=file):
        pass
    assert says in str(caught.value)
    assert file.read_text() == text
