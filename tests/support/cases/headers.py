"""Rows for headers exchanges: types and values side by side, the four modes, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tests.support.cases.case import Case, Declaration, Outcome, reaches, refuses
from tests.support.cases.topic import MEASURED, queues
from waybill.topology import Binding, Exchange, Message

SOURCE = "rabbit_exchange_type_headers.erl"
PAGE = "https://www.rabbitmq.com/docs/exchanges#headers"
ROUTING_VALUE = "mc_amqpl.erl, routing_value/2; measured on RabbitMQ 4.3.6"

MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())

_H: tuple[Declaration, ...] = (Exchange("h", "headers"), *queues("q"))


def headers_case(
    claim: str, source: str, arguments: Mapping[str, Any], headers: Mapping[str, Any], matches: bool
) -> Case:
    """One queue bound with `arguments`, one message with `headers`."""
    declare = (*_H, Binding("h", "q", "", arguments))
    return Case(claim, source, declare, (Message("h", "", headers),), reaches("q") if matches else reaches())


def _value(bound: Any, given: Any, matches: bool, source: str = MEASURED) -> Case:
    claim = f"bound {bound!r} {'matches' if matches else 'does not match'} {given!r}"
    return headers_case(claim, source, {"k": bound}, {"k": given}, matches)


VALUES = (
    _value(1, 1, True),
    _value(2**40, 2**40, True),
    _value(1.5, 1.5, True),
    _value("", "", True),
    _value("grün", "grün", True),
    _value(Decimal("1.5"), Decimal("1.5"), True),
    _value(True, True, True),
    _value([1, "a"], [1, "a"], True),
    _value({"a": 1}, {"a": 1}, True),
    _value("grün", "grün".encode(), True),
    _value("grün".encode(), "grün", True),
    _value(b"\xff", b"\xff", True),
    _value(1, 1.0, False),
    _value(1, "1", False),
    _value(1, True, False),
    _value(0, False, False),
    _value(0.0, -0.0, False),
    _value(1, Decimal(1), False),
    _value(Decimal("1.5"), Decimal("1.50"), False),
    _value("a", "A", False),
    _value("a", ["a"], False),
    _value([1], [1.0], False),
    _value([1, 2], [2, 1], False),
    _value({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
    _value(None, 1, True, PAGE),
    _value(None, "", True),
    _value(None, None, True),
    _value("", None, False),
    # The broker compares values and forgets their types, but only at the top level ...
    _value([], {}, True, SOURCE),
    _value({}, [], True, SOURCE),
    _value(["a"], [b"a"], False, SOURCE),
    _value({"a": "b"}, {"a": b"b"}, False, SOURCE),
    # ... where it also turns a message's timestamp into milliseconds, and a binding's not.
    _value(MOMENT, MOMENT, False, ROUTING_VALUE),
    _value(MOMENT, SECONDS, True, ROUTING_VALUE),
    _value(SECONDS, MOMENT, False, ROUTING_VALUE),
    _value(1000 * SECONDS, MOMENT, True, ROUTING_VALUE),
    _value([MOMENT], [MOMENT], True, ROUTING_VALUE),
    _value({"k": MOMENT}, {"k": MOMENT}, True, ROUTING_VALUE),
)

_MODES: tuple[tuple[str, dict[str, Any], dict[str, Any], bool], ...] = (
    ("all is the default", {"a": 1, "b": 2}, {"a": 1}, False),
    ("all of them match", {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
    ("all, said aloud", {"x-match": "all", "a": 1, "b": 2}, {"a": 1, "b": 3}, False),
    ("any: one is enough", {"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
    ("any: none is not", {"x-match": "any", "a": 1, "b": 2}, {"a": 2, "b": 1}, False),
    ("names are compared with their case", {"a": 1}, {"A": 1}, False),
    ("all leaves x- out", {"x-a": 1, "b": 2}, {"b": 2}, True),
    ("any leaves x- out", {"x-match": "any", "x-a": 1, "b": 2}, {"x-a": 1}, False),
    ("all-with-x compares x-", {"x-match": "all-with-x", "x-a": 1, "b": 2}, {"b": 2}, False),
    ("all-with-x finds x-", {"x-match": "all-with-x", "x-a": 1, "b": 2}, {"x-a": 1, "b": 2}, True),
    ("any-with-x compares x-", {"x-match": "any-with-x", "x-a": 1, "b": 2}, {"x-a": 1}, True),
    ("any-with-x leaves x-match itself out", {"x-match": "any-with-x"}, {"x-match": "any-with-x"}, False),
    ("x alone is no x- name", {"x": 1}, {}, False),
    ("all without arguments matches every message", {}, {}, True),
    ("all without arguments matches any headers", {"x-match": "all"}, {"a": 1}, True),
    ("any without arguments matches none", {"x-match": "any"}, {"a": 1}, False),
    ("all with only x- matches every message", {"x-a": 1}, {"b": 1}, True),
    ("all-with-x without arguments matches every message", {"x-match": "all-with-x"}, {}, True),
    ("any-with-x without arguments matches none", {"x-match": "any-with-x"}, {"a": 1}, False),
    ("any with void: the name is there", {"x-match": "any", "a": None}, {"a": 5}, True),
    ("any with void: the name is missing", {"x-match": "any", "a": None}, {"b": 5}, False),
    ("void must be there for all", {"a": None}, {}, False),
)

MODES = tuple(
    headers_case(claim, MEASURED, arguments, headers, is_match) for claim, arguments, headers, is_match in _MODES
)


def _bad_mode(mode: Any, text: str) -> Case:
    declare = (*_H, Binding("h", "q", "", {"x-match": mode, "a": 1}))
    return Case(f"x-match {mode!r} is refused", SOURCE, declare, (), refuses("declare 2", 406, text))


_FIELD_VALUE = "Invalid x-match field value <<{}>>; expected all, any, all-with-x, or any-with-x"
_FIELD_TYPE = "Invalid x-match field type {} (value {}); expected longstr"

REFUSED = (
    _bad_mode("ALL", _FIELD_VALUE.format('"ALL"')),
    _bad_mode("", _FIELD_VALUE.format("")),
    _bad_mode("alle für", _FIELD_VALUE.format('"alle für"/utf8')),
    _bad_mode(1, _FIELD_TYPE.format("signedint", 1)),
    _bad_mode(True, _FIELD_TYPE.format("bool", "true")),
    _bad_mode(None, _FIELD_TYPE.format("void", "undefined")),
    _bad_mode(b"all", _FIELD_TYPE.format("binary", '<<"all">>')),
)

KEY_IGNORED = Case(
    "the routing key plays no part",
    PAGE,
    (Exchange("h", "headers"), *queues("q"), Binding("h", "q", "some.key", {"a": 1})),
    (Message("h", "another.key", {"a": 1}),),
    reaches("q"),
)
CC_SEEN = Case(
    "CC is a header like others, BCC is taken off before",
    MEASURED,
    (
        Exchange("h", "headers"),
        *queues("q", "r"),
        Binding("h", "q", "", {"CC": ["a"]}),
        Binding("h", "r", "", {"BCC": None}),
    ),
    (Message("h", "", {"CC": ["a"], "BCC": ["a"]}),),
    Outcome({"q": (0,)}),
)

HEADERS = (*VALUES, *MODES, *REFUSED, KEY_IGNORED, CC_SEEN)
