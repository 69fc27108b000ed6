"""Exchanges of type `x-delayed-message`, on a clock of the test's own, after the plugin's source.

The plugin isn't in RabbitMQ's image, so no test holds this to RabbitMQ.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pamqp import commands, frame
from pamqp.header import ContentHeader

from tests.unit.test_broker_limits import logged_in
from waybill.broker.memory import ENTRY
from waybill.broker.node import Node
from waybill.errors import ProtocolRefusal, TopologyError
from waybill.routing import Router
from waybill.routing.publishing import MAX_DELAY, delay_of
from waybill.topology import Binding, Exchange, Message, Queue, Topology

LATER = Exchange("later", "x-delayed-message", arguments={"x-delayed-type": "topic"})
HELD = Topology(
    [LATER, Exchange("dice", "x-delayed-message", arguments={"x-delayed-type": "x-random"})],
    [
        Queue("q"),
        Queue("other"),
        Queue("dying", arguments={"x-message-ttl": 0, "x-dead-letter-exchange": "later"}),
    ],
    [Binding("later", "q", "mail.#"), Binding("dice", "q", "k"), Binding("dice", "other", "k")],
)

DELAYS = (
    (None, 0),
    (5, 5),
    ("86400000", 86_400_000),
    ("+5", 5),
    (1.9, 1),
    (Decimal("2.5"), 2),
    (0, 0),
    (-5, 0),
    (True, 0),
    ("soon", 0),
    ("1.5", 0),
    ([5], 0),
    (float("inf"), 0),
    (MAX_DELAY, MAX_DELAY),
    (MAX_DELAY + 1, 0),
)


@pytest.mark.parametrize(("given", "expected"), DELAYS)
def test_the_delay_of_a_header(given: object, expected: int) -> None:
    assert delay_of({} if given is None else {"x-delay": given}) == expected


class Rig:
    """A broker with such exchanges, a client, and the time."""

    def __init__(self) -> None:
        self.node = Node()
        assert self.node.vhost("/").load(HELD) == ()
        self.client = logged_in(self.node)

    def publish(self, exchange: str, key: str, *, mandatory: bool = False, **headers: Any) -> bytes:
        properties = commands.Basic.Properties(headers={n.replace("_", "-"): one for n, one in headers.items()})
        for part in (commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory),):
            self.client.receive(frame.marshal(part, 1))
        self.client.receive(frame.marshal(ContentHeader(0, 2, properties), 1))
        self.client.receive(b"\x03\x00\x01\x00\x00\x00\x02hi\xce")
        return self.client.take_out()

    def counts(self, now: float) -> dict[str, int]:
        """How many messages are in the queues at this time."""
        self.node.clock.now = now
        self.node.clock.on_time()
        return {name: queue.ready.count for name, queue in self.node.vhost("/").queues.items() if queue.ready.count}

    def headers(self, queue: str) -> bytes:
        entry = self.node.vhost("/").queues[queue].get()
        assert entry is not None
        return entry.message.header


def test_a_message_comes_when_its_delay_has_passed() -> None:
    rig = Rig()
    rig.publish("later", "mail.new", x_delay=3000)
    rig.publish("later", "mail.old", x_delay="1000")
    rig.publish("later", "sms", x_delay=500)
    assert [rig.counts(now) for now in (0, 0.9, 1, 2.9, 3)] == [{}, {}, {"q": 1}, {"q": 1}, {"q": 2}]
    assert b"x-delayl" + (-1000).to_bytes(8, "big", signed=True) in rig.headers("q")
    assert b"x-delayl" + (-3000).to_bytes(8, "big", signed=True) in rig.headers("q")
    assert rig.node.memory.held == 4 + 2 * ENTRY  # both are taken, and not acknowledged


@pytest.mark.parametrize("delay", [{}, {"x_delay": 0}, {"x_delay": -5}])
def test_without_a_delay_it_comes_at_once(delay: dict[str, Any]) -> None:
    rig = Rig()
    rig.publish("later", "mail.new", **delay)
    assert rig.counts(0) == {"q": 1}


def test_a_mandatory_one_is_returned_and_comes_later_all_the_same() -> None:
    rig = Rig()
    assert b"NO_ROUTE" in rig.publish("later", "mail.new", mandatory=True, x_delay=10)
    assert rig.counts(1) == {"q": 1}
    assert b"NO_ROUTE" not in rig.publish("later", "mail.new", mandatory=True)


def test_where_it_goes_is_decided_when_it_goes() -> None:
    rig = Rig()
    rig.publish("later", "sms", x_delay=1000)
    rig.publish("later", "mail", x_delay=1000)
    vhost = rig.node.vhost("/")
    vhost.bind(Binding("later", "other", "sms"))
    vhost.unbind(Binding("later", "q", "mail.#"))
    assert rig.counts(1) == {"other": 1}
    rig.publish("later", "sms", x_delay=1000)
    vhost.delete_exchange("later", if_unused=False)
    assert rig.counts(2) == {"other": 1}
    assert rig.node.memory.held == 2 + ENTRY


def test_a_dead_letter_waits_too() -> None:
    rig = Rig()
    rig.publish("", "dying", x_delay=1000)  # to the default exchange it is a header as any other
    assert rig.counts(0) == {}
    vhost = rig.node.vhost("/")
    vhost.bind(Binding("later", "other", "dying"))
    assert [rig.counts(0.9), rig.counts(1)] == [{}, {"other": 1}]


def test_it_chooses_as_the_type_that_it_routes_as() -> None:
    rig = Rig()
    for _ in range(60):
        rig.publish("dice", "any", x_delay=1000)
    found = rig.counts(1)
    assert sorted(found) == ["other", "q"]
    assert sum(found.values()) == 60


def test_what_leads_to_one_is_refused_or_left_out() -> None:
    binding = Binding("amq.topic", "later", "k", destination_type="exchange")
    node = Node()
    said = node.vhost("/").load(Topology([LATER], bindings=[binding]))
    assert said == ("the bindings to exchange 'later' (type x-delayed-message)",)
    with pytest.raises(ProtocolRefusal, match="a binding to an exchange of type x-delayed-message is not part of"):
        node.vhost("/").bind(binding)
    history = Exchange("h", "x-delayed-message", arguments={"x-delayed-type": "x-recent-history"})
    with pytest.raises(ProtocolRefusal, match="x-delayed-message that routes as x-recent-history is not part of"):
        node.vhost("/").declare_exchange(history)


@pytest.mark.parametrize(
    "arguments", [{}, {"x-delayed-type": 5}, {"x-delayed-type": "topci"}, {"x-delayed-type": "x-delayed-message"}]
)
def test_the_type_that_it_routes_as_must_be_one(arguments: dict[str, Any]) -> None:
    with pytest.raises(TopologyError, match="Invalid argument, 'x-delayed-type' must be an existing exchange type"):
        Router().declare_exchange(Exchange("later", "x-delayed-message", arguments=arguments))


@pytest.mark.parametrize(
    ("headers", "note"),
    [
        ({}, "x-delayed-message: routes at once, the message has no header x-delay above 0"),
        (
            {"x-delay": "9"},
            "x-delayed-message: holds the message for 9 ms, and returns it at once where it is mandatory",
        ),
    ],
)
def test_a_trace_says_how_long(headers: dict[str, Any], note: str) -> None:
    trace = Router.of(HELD).trace(Message("later", "mail.new", headers))
    assert (trace.queues, trace.root.note) == (("q",), note)
