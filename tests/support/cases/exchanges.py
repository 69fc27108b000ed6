"""Rows for direct, fanout and the default exchange, and for the way from exchange to exchange."""

from __future__ import annotations

from typing import Any

from tests.support.cases.case import Case, Declaration, Outcome, reaches
from tests.support.cases.topic import MEASURED, queues
from waybill.topology import Binding, Exchange, Message

ROUTE = "rabbit_exchange.erl, route1/4"
E2E = "https://www.rabbitmq.com/docs/e2e"
ALTERNATE = "https://www.rabbitmq.com/docs/ae"


def to_exchange(source: str, destination: str, key: str = "", arguments: dict[str, Any] | None = None) -> Binding:
    """A binding from exchange to exchange."""
    return Binding(source, destination, key, arguments or {}, destination_type="exchange")


def with_alternate(name: str, kind: str, alternate: str) -> Exchange:
    """An exchange with an alternate exchange."""
    return Exchange(name, kind, arguments={"alternate-exchange": alternate})


def routed(claim: str, source: str, declare: tuple[Declaration, ...], message: Message, expect: Outcome) -> Case:
    """One message and where it must end up."""
    return Case(claim, source, declare, (message,), expect)


_D: tuple[Declaration, ...] = (Exchange("d"), *queues("q", "r"))
_F: tuple[Declaration, ...] = (Exchange("f", "fanout"), *queues("q", "r"))

SIMPLE = (
    routed(
        "direct: equal keys",
        MEASURED,
        (*_D, Binding("d", "q", "k"), Binding("d", "r", "K")),
        Message("d", "k"),
        reaches("q"),
    ),
    routed(
        "direct: one key, two queues",
        MEASURED,
        (*_D, Binding("d", "q", "k"), Binding("d", "r", "k")),
        Message("d", "k"),
        reaches("q", "r"),
    ),
    routed(
        "direct: the empty key is a key",
        MEASURED,
        (*_D, Binding("d", "q"), Binding("d", "r", "k")),
        Message("d"),
        reaches("q"),
    ),
    routed(
        "direct: * and # are plain",
        MEASURED,
        (*_D, Binding("d", "q", "#"), Binding("d", "r", "*")),
        Message("d", "k"),
        reaches(),
    ),
    routed(
        "fanout: keys are ignored",
        MEASURED,
        (*_F, Binding("f", "q", "k"), Binding("f", "r")),
        Message("f", "z"),
        reaches("q", "r"),
    ),
    routed(
        "default exchange: the key is the queue's name",
        MEASURED,
        queues("q", "r"),
        Message("", "q"),
        reaches("q"),
    ),
    routed("default exchange: no such queue", MEASURED, queues("q"), Message("", "Q"), reaches()),
    routed(
        "two bindings of one queue match: one copy",
        MEASURED,
        (*_D, Binding("d", "q", "k"), Binding("d", "q", "k", {"a": 1})),
        Message("d", "k"),
        reaches("q"),
    ),
    routed("no binding: unroutable", MEASURED, _D, Message("d", "k"), reaches()),
)

_X2: tuple[Declaration, ...] = (Exchange("x", "fanout"), Exchange("y", "fanout"), *queues("q", "r"))
_CYCLE: tuple[Declaration, ...] = (
    Exchange("a", "topic"),
    Exchange("b", "fanout"),
    *queues("q"),
    to_exchange("a", "b", "#"),
    to_exchange("b", "a"),
    to_exchange("a", "a", "#"),
    Binding("b", "q"),
)

BETWEEN = (
    routed(
        "exchange to exchange follows the source's type",
        E2E,
        (
            Exchange("t", "topic"),
            Exchange("d"),
            *queues("q", "r"),
            to_exchange("t", "d", "a.#"),
            Binding("d", "q", "a.b"),
            Binding("d", "r", "a.#"),
        ),
        Message("t", "a.b"),
        reaches("q"),
    ),
    routed(
        "the source decides, the destination too",
        E2E,
        (
            Exchange("t", "topic"),
            Exchange("f", "fanout"),
            *queues("q"),
            to_exchange("t", "f", "a.*"),
            Binding("f", "q"),
        ),
        Message("t", "b.a"),
        reaches(),
    ),
    routed(
        "headers are still there on the second exchange",
        E2E,
        (
            Exchange("f", "fanout"),
            Exchange("h", "headers"),
            *queues("q", "r"),
            to_exchange("f", "h"),
            Binding("h", "q", "", {"a": 1}),
            Binding("h", "r", "", {"a": 2}),
        ),
        Message("f", "", {"a": 1}),
        reaches("q"),
    ),
    routed("cycles and self-bindings end", E2E, _CYCLE, Message("a", "k"), reaches("q")),
    routed(
        "two ways to one queue: one copy",
        ROUTE,
        (*_X2, to_exchange("x", "y"), Binding("x", "q"), Binding("y", "q")),
        Message("x"),
        reaches("q"),
    ),
    routed(
        "an internal exchange takes from an exchange",
        MEASURED,
        (
            Exchange("x", "fanout"),
            Exchange("i", "fanout", internal=True),
            *queues("q"),
            to_exchange("x", "i"),
            Binding("i", "q"),
        ),
        Message("x"),
        reaches("q"),
    ),
)

ALTERNATES = (
    routed(
        "alternate exchange: used where nothing matches",
        ALTERNATE,
        (with_alternate("d", "direct", "f"), *_F, Binding("d", "q", "k"), Binding("f", "r")),
        Message("d", "z"),
        reaches("r"),
    ),
    routed(
        "alternate exchange: not used where something matches",
        ALTERNATE,
        (with_alternate("d", "direct", "f"), *_F, Binding("d", "q", "k"), Binding("f", "r")),
        Message("d", "k"),
        reaches("q"),
    ),
    routed(
        "a matching binding that leads nowhere suppresses it",
        ROUTE,
        (
            with_alternate("x", "fanout", "f"),
            Exchange("y", "fanout"),
            *_F,
            to_exchange("x", "y"),
            Binding("f", "q"),
        ),
        Message("x"),
        reaches(),
    ),
    routed(
        "a binding to itself suppresses it",
        ROUTE,
        (with_alternate("x", "fanout", "f"), *_F, to_exchange("x", "x"), Binding("f", "q")),
        Message("x"),
        reaches(),
    ),
    routed(
        "the second exchange's alternate is used",
        ROUTE,
        (
            Exchange("x", "fanout"),
            with_alternate("y", "direct", "f"),
            *_F,
            to_exchange("x", "y"),
            Binding("f", "q"),
        ),
        Message("x", "k"),
        reaches("q"),
    ),
    routed(
        "alternates of alternates",
        ALTERNATE,
        (with_alternate("x", "direct", "y"), with_alternate("y", "direct", "f"), *_F, Binding("f", "q")),
        Message("x", "k"),
        reaches("q"),
    ),
    routed(
        "cycles of alternates end",
        ROUTE,
        (with_alternate("x", "direct", "y"), with_alternate("y", "direct", "x")),
        Message("x", "k"),
        reaches(),
    ),
    routed(
        "a missing alternate is as none",
        ALTERNATE,
        (with_alternate("x", "direct", "nowhere"),),
        Message("x", "k"),
        reaches(),
    ),
    routed(
        "the default exchange as alternate finds no queue",
        MEASURED,
        (with_alternate("x", "direct", ""), *queues("q")),
        Message("x", "q"),
        reaches(),
    ),
    routed(
        "an alternate gets the same routing key",
        ALTERNATE,
        (
            with_alternate("x", "fanout", "t"),
            Exchange("t", "topic"),
            *queues("q", "r"),
            Binding("t", "q", "a.*"),
            Binding("t", "r", "b.*"),
        ),
        Message("x", "a.b"),
        reaches("q"),
    ),
    routed(
        "an internal exchange as alternate",
        ALTERNATE,
        (
            with_alternate("x", "direct", "i"),
            Exchange("i", "fanout", internal=True),
            *queues("q"),
            Binding("i", "q"),
        ),
        Message("x", "k"),
        reaches("q"),
    ),
)

EXCHANGES = (*SIMPLE, *BETWEEN, *ALTERNATES)
