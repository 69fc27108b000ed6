"""Rows for queues: the order that priorities give, and where dead letters go."""

from __future__ import annotations

from typing import Any

from tests.support.cases.case import Case, Death, Declaration, Outcome, Reason, delivers, reaches, vanishes
from tests.support.cases.topic import MEASURED, queues
from waybill.topology import Binding, Exchange, Message, Queue

PRIORITY = "https://www.rabbitmq.com/docs/priority"
QUORUM = "https://www.rabbitmq.com/docs/quorum-queues"
DLX = "https://www.rabbitmq.com/docs/dlx"
DEAD_LETTER = "rabbit_dead_letter.erl"

PRIORITIES = (None, 0, 3, 4, 5, 9, 200, 5, None, 31, 32, 40)
_BY_PRIORITY = tuple(Message("", "q", priority=priority) for priority in PRIORITIES)


def _classic(name: str, **arguments: Any) -> Queue:
    return Queue(name, durable=False, exclusive=True, arguments=_dashed(arguments))


def _quorum(name: str, **arguments: Any) -> Queue:
    return Queue(name, arguments={"x-queue-type": "quorum", **_dashed(arguments)})


def _dashed(arguments: dict[str, Any]) -> dict[str, Any]:
    return {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}


ORDER = (
    Case(
        "without x-max-priority, first in is first out",
        PRIORITY,
        queues("q"),
        _BY_PRIORITY,
        delivers(q=tuple(range(12))),
    ),
    Case(
        "above the maximum counts as the maximum, none as 0",
        PRIORITY,
        (_classic("q", max_priority=5),),
        _BY_PRIORITY,
        delivers(q=(4, 5, 6, 7, 9, 10, 11, 3, 2, 0, 1, 8)),
    ),
    Case(
        "a maximum of 1 makes two levels",
        PRIORITY,
        (_classic("q", max_priority=1),),
        _BY_PRIORITY,
        delivers(q=(2, 3, 4, 5, 6, 7, 9, 10, 11, 0, 1, 8)),
    ),
    Case(
        "the highest maximum",
        PRIORITY,
        (_classic("q", max_priority=255),),
        _BY_PRIORITY,
        delivers(q=(6, 11, 10, 9, 5, 4, 7, 3, 2, 0, 1, 8)),
    ),
    Case(
        "a quorum queue: 32 levels, none is 4, above 31 is 31",
        MEASURED,
        (_quorum("q"),),
        _BY_PRIORITY,
        delivers(q=(6, 9, 10, 11, 5, 4, 7, 0, 3, 8, 2, 1)),
    ),
)


_TO_D: dict[str, Any] = {"dead_letter_exchange": "d"}
_D: tuple[Declaration, ...] = (
    Exchange("d", "topic"),
    *queues("q", "r", "s"),
    Binding("d", "q", "a"),
    Binding("d", "r", "r1"),
    Binding("d", "s", "s1"),
)
_CC_BCC = Message("", "a", {"CC": ["r1"], "BCC": ["s1"]})


_TO_A = Message("", "a")


def _dies(claim: str, source: str, queue: Queue, reason: Reason, expect: Outcome, message: Message = _TO_A) -> Case:
    """Queue `a` loses a message to the topic exchange `d`, that knows the keys a, r1 and s1."""
    return Case(claim, source, (*_D, queue), (message,), expect, (Death(queue.name, reason),))


LETTERS = (
    _dies("rejected", DLX, _classic("a", **_TO_D), "rejected", reaches("q")),
    _dies("expired by the queue", DLX, _classic("a", **_TO_D, message_ttl=0), "expired", reaches("q")),
    _dies(
        "expired by the message",
        DLX,
        _classic("a", **_TO_D),
        "expired",
        reaches("q"),
        Message("", "a", expiration="0"),
    ),
    _dies("over the length", DLX, _classic("a", **_TO_D, max_length=0), "maxlen", reaches("q")),
    _dies(
        "over the delivery limit",
        QUORUM,
        _quorum("a", **_TO_D, delivery_limit=2),
        "delivery_limit",
        reaches("q"),
    ),
    _dies("rejected from a quorum queue", QUORUM, _quorum("a", **_TO_D), "rejected", reaches("q")),
    _dies("no dead-letter exchange: gone", DLX, _classic("a"), "rejected", vanishes()),
    _dies(
        "a dead-letter exchange that is missing: gone",
        DLX,
        _classic("a", dead_letter_exchange="nowhere"),
        "rejected",
        vanishes(),
    ),
    _dies(
        "a dead letter that no binding takes: gone",
        DLX,
        _classic("b", **_TO_D),
        "rejected",
        vanishes(),
        Message("", "b"),
    ),
    _dies(
        "the dead-letter key takes the place of the message's",
        DLX,
        _classic("a", **_TO_D, dead_letter_routing_key="r1"),
        "rejected",
        reaches("r"),
    ),
    _dies(
        "without a dead-letter key CC and BCC go along",
        DEAD_LETTER,
        _classic("a", **_TO_D, max_length=0),
        "maxlen",
        reaches("q", "r", "s"),
        _CC_BCC,
    ),
    _dies(
        "with a dead-letter key CC and BCC are left behind",
        DEAD_LETTER,
        _classic("a", **_TO_D, max_length=0, dead_letter_routing_key="a"),
        "maxlen",
        reaches("q"),
        _CC_BCC,
    ),
    _dies(
        "the default exchange takes dead letters",
        DLX,
        _classic("a", dead_letter_exchange="", dead_letter_routing_key="r"),
        "rejected",
        reaches("r"),
    ),
)


def _to(name: str, then: str, **arguments: Any) -> Queue:
    return _classic(name, dead_letter_exchange="", dead_letter_routing_key=then, **arguments)


_INTERNAL: tuple[Declaration, ...] = (
    Exchange("i", "fanout", internal=True),
    *queues("q"),
    Binding("i", "q"),
    _classic("a", dead_letter_exchange="i"),
)
_LOST: tuple[Declaration, ...] = (
    Exchange("d", arguments={"alternate-exchange": "f"}),
    Exchange("f", "fanout"),
    *queues("q"),
    Binding("f", "q"),
    _classic("a", **_TO_D),
)

CHAINS = (
    Case(
        "from queue to queue",
        DLX,
        (_to("a", "b", message_ttl=0), _to("b", "q", max_length=0), *queues("q")),
        (Message("", "a"),),
        reaches("q"),
        (Death("a", "expired"), Death("b", "maxlen")),
    ),
    Case(
        "a cycle without a rejection is dropped",
        DLX,
        (_to("a", "b", message_ttl=0), _to("b", "a", message_ttl=0)),
        (Message("", "a"),),
        vanishes(),
        (Death("a", "expired"), Death("b", "expired")),
    ),
    Case(
        "to itself by expiry: dropped",
        DLX,
        (_to("a", "a", message_ttl=0),),
        (Message("", "a"),),
        vanishes(),
        (Death("a", "expired"),),
    ),
    Case(
        "to itself by rejection: back again",
        DLX,
        (_to("a", "a"),),
        (Message("", "a"),),
        reaches("a"),
        (Death("a", "rejected"),),
    ),
    Case(
        "a cycle with a rejection in it goes on",
        DLX,
        (_to("a", "b"), _to("b", "a", message_ttl=0)),
        (Message("", "a"),),
        reaches("a"),
        (Death("b", "expired"), Death("a", "rejected")),
    ),
    Case(
        "an internal exchange takes dead letters",
        DLX,
        _INTERNAL,
        (Message("", "a"),),
        reaches("q"),
        (Death("a", "rejected"),),
    ),
    Case(
        "a dead letter too takes the alternate exchange",
        DLX,
        _LOST,
        (Message("", "a"),),
        reaches("q"),
        (Death("a", "rejected"),),
    ),
    Case(
        "headers go along",
        DLX,
        (
            Exchange("h", "headers"),
            *queues("q", "r"),
            Binding("h", "q", "", {"a": 1}),
            Binding("h", "r", "", {"a": 2}),
            _classic("a", dead_letter_exchange="h"),
        ),
        (Message("", "a", {"a": 1}),),
        reaches("q"),
        (Death("a", "rejected"),),
    ),
)

QUEUES = (*ORDER, *LETTERS, *CHAINS)
