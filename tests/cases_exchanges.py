"""Rows for the other exchanges, for the way from exchange to exchange, and for what a publication may carry."""

from __future__ import annotations

from typing import Any

from tests.case import Case, Declaration, Outcome, reaches, refuses
from tests.cases_topic import MEASURED, queues
from waybill.topology import Binding, Exchange, Message

ROUTE = "rabbit_exchange.erl, route1/4"
E2E = "https://www.rabbitmq.com/docs/e2e"
ALTERNATE = "https://www.rabbitmq.com/docs/ae"
COPIES = "https://www.rabbitmq.com/docs/sender-selected"


def _to_exchange(source: str, destination: str, key: str = "", arguments: dict[str, Any] | None = None) -> Binding:
    return Binding(source, destination, key, arguments or {}, destination_type="exchange")


def _else(name: str, kind: str, alternate: str) -> Exchange:
    return Exchange(name, kind, arguments={"alternate-exchange": alternate})


def _case(claim: str, source: str, declare: tuple[Declaration, ...], message: Message, expect: Outcome) -> Case:
    return Case(claim, source, declare, (message,), expect)


_D = (Exchange("d"), *queues("q", "r"))
_F = (Exchange("f", "fanout"), *queues("q", "r"))

SIMPLE = (
    _case("direct: equal keys", MEASURED, (*_D, Binding("d", "q", "k"), Binding("d", "r", "K")), Message("d", "k"), reaches("q")),
    _case("direct: one key, two queues", MEASURED, (*_D, Binding("d", "q", "k"), Binding("d", "r", "k")), Message("d", "k"), reaches("q", "r")),
    _case("direct: the empty key is a key", MEASURED, (*_D, Binding("d", "q"), Binding("d", "r", "k")), Message("d"), reaches("q")),
    _case("direct: * and # are plain", MEASURED, (*_D, Binding("d", "q", "#"), Binding("d", "r", "*")), Message("d", "k"), reaches()),
    _case("fanout: keys are ignored", MEASURED, (*_F, Binding("f", "q", "k"), Binding("f", "r")), Message("f", "z"), reaches("q", "r")),
    _case("default exchange: the key is the queue's name", MEASURED, queues("q", "r"), Message("", "q"), reaches("q")),
    _case("default exchange: no such queue", MEASURED, queues("q"), Message("", "Q"), reaches()),
    _case("two bindings of one queue match: one copy", MEASURED, (*_D, Binding("d", "q", "k"), Binding("d", "q", "k", {"a": 1})), Message("d", "k"), reaches("q")),
    _case("no binding: unroutable", MEASURED, _D, Message("d", "k"), reaches()),
)

_X2 = (Exchange("x", "fanout"), Exchange("y", "fanout"), *queues("q", "r"))
_CYCLE = (
    Exchange("a", "topic"), Exchange("b", "fanout"), *queues("q"),
    _to_exchange("a", "b", "#"), _to_exchange("b", "a"), _to_exchange("a", "a", "#"), Binding("b", "q"),
)

BETWEEN = (
    _case("exchange to exchange follows the source's type", E2E, (Exchange("t", "topic"), Exchange("d"), *queues("q", "r"), _to_exchange("t", "d", "a.#"), Binding("d", "q", "a.b"), Binding("d", "r", "a.#")), Message("t", "a.b"), reaches("q")),
    _case("the source decides, the destination too", E2E, (Exchange("t", "topic"), Exchange("f", "fanout"), *queues("q"), _to_exchange("t", "f", "a.*"), Binding("f", "q")), Message("t", "b.a"), reaches()),
    _case("headers are still there on the second exchange", E2E, (Exchange("f", "fanout"), Exchange("h", "headers"), *queues("q", "r"), _to_exchange("f", "h"), Binding("h", "q", "", {"a": 1}), Binding("h", "r", "", {"a": 2})), Message("f", "", {"a": 1}), reaches("q")),
    _case("cycles and self-bindings end", E2E, _CYCLE, Message("a", "k"), reaches("q")),
    _case("two ways to one queue: one copy", ROUTE, (*_X2, _to_exchange("x", "y"), Binding("x", "q"), Binding("y", "q")), Message("x"), reaches("q")),
    _case("an internal exchange takes from an exchange", MEASURED, (Exchange("x", "fanout"), Exchange("i", "fanout", internal=True), *queues("q"), _to_exchange("x", "i"), Binding("i", "q")), Message("x"), reaches("q")),
)

ALTERNATES = (
    _case("alternate exchange: used where nothing matches", ALTERNATE, (_else("d", "direct", "f"), *_F, Binding("d", "q", "k"), Binding("f", "r")), Message("d", "z"), reaches("r")),
    _case("alternate exchange: not used where something matches", ALTERNATE, (_else("d", "direct", "f"), *_F, Binding("d", "q", "k"), Binding("f", "r")), Message("d", "k"), reaches("q")),
    _case("a matching binding that leads nowhere suppresses it", ROUTE, (_else("x", "fanout", "f"), Exchange("y", "fanout"), *_F, _to_exchange("x", "y"), Binding("f", "q")), Message("x"), reaches()),
    _case("a binding to itself suppresses it", ROUTE, (_else("x", "fanout", "f"), *_F, _to_exchange("x", "x"), Binding("f", "q")), Message("x"), reaches()),
    _case("the second exchange's alternate is used", ROUTE, (Exchange("x", "fanout"), _else("y", "direct", "f"), *_F, _to_exchange("x", "y"), Binding("f", "q")), Message("x", "k"), reaches("q")),
    _case("alternates of alternates", ALTERNATE, (_else("x", "direct", "y"), _else("y", "direct", "f"), *_F, Binding("f", "q")), Message("x", "k"), reaches("q")),
    _case("cycles of alternates end", ROUTE, (_else("x", "direct", "y"), _else("y", "direct", "x")), Message("x", "k"), reaches()),
    _case("a missing alternate is as none", ALTERNATE, (_else("x", "direct", "nowhere"),), Message("x", "k"), reaches()),
    _case("the default exchange as alternate finds no queue", MEASURED, (_else("x", "direct", ""), *queues("q")), Message("x", "q"), reaches()),
    _case("an alternate gets the same routing key", ALTERNATE, (_else("x", "fanout", "t"), Exchange("t", "topic"), *queues("q", "r"), Binding("t", "q", "a.*"), Binding("t", "r", "b.*")), Message("x", "a.b"), reaches("q")),
    _case("an internal exchange as alternate", ALTERNATE, (_else("x", "direct", "i"), Exchange("i", "fanout", internal=True), *queues("q"), Binding("i", "q")), Message("x", "k"), reaches("q")),
)

_DQR = (*_D, Binding("d", "q", "k"), Binding("d", "r", "l"))
_BAD = "invalid message: {{unacceptable_type_in_header,\"{}\",{}}}"

CARRIED = (
    _case("CC adds routing keys", COPIES, _DQR, Message("d", "k", {"CC": ["l"]}), reaches("q", "r")),
    _case("BCC adds routing keys", COPIES, _DQR, Message("d", "z", {"BCC": ["l", "k"]}), reaches("q", "r")),
    _case("CC on the default exchange", COPIES, queues("q", "r"), Message("", "q", {"CC": ["r"]}), reaches("q", "r")),
    _case("BCC on the default exchange", COPIES, queues("q", "r"), Message("", "z", {"BCC": ["r"]}), reaches("r")),
    _case("CC with the same key: one copy", COPIES, _DQR, Message("d", "k", {"CC": ["k", "k"], "BCC": ["k"]}), reaches("q")),
    _case("bytes in CC are no key", MEASURED, queues("q"), Message("", "z", {"CC": [b"q"]}), reaches()),
    _case("what is no text in CC is passed over", MEASURED, queues("q"), Message("", "z", {"CC": [1, None, "q"]}), reaches("q")),
    _case("CC is spelt in capitals", MEASURED, queues("q"), Message("", "z", {"cc": ["q"]}), reaches()),
    _case("an empty CC", MEASURED, queues("q"), Message("", "q", {"CC": []}), reaches("q")),
    _case("CC as text is refused", MEASURED, queues("q"), Message("", "q", {"CC": "q"}), refuses("publish 0", 406, _BAD.format("CC", "longstr"))),
    _case("CC as void is refused", MEASURED, queues("q"), Message("", "q", {"CC": None}), refuses("publish 0", 406, _BAD.format("CC", "void"))),
    _case("BCC as text is refused", MEASURED, queues("q"), Message("", "q", {"BCC": "q"}), refuses("publish 0", 406, _BAD.format("BCC", "longstr"))),
    _case("CC on exchange after exchange", ROUTE, (Exchange("f", "fanout"), *_DQR, _to_exchange("f", "d")), Message("f", "k", {"CC": ["l"]}), reaches("q", "r")),
    _case("one key matched is enough to suppress the alternate", ROUTE, (_else("d", "direct", "f"), Exchange("f", "fanout"), *queues("q", "r"), Binding("d", "q", "k"), Binding("f", "r")), Message("d", "z", {"CC": ["k"]}), reaches("q")),
)

PUBLISHED = (
    _case("no such exchange: 404", MEASURED, (), Message("nowhere", "k"), refuses("publish 0", 404, "no exchange 'nowhere' in vhost '/'")),
    _case("an internal exchange takes no publication: 403", MEASURED, (Exchange("i", internal=True),), Message("i"), refuses("publish 0", 403, "cannot publish to internal exchange 'i' in vhost '/'")),
    _case("expiration 0 is allowed", MEASURED, (), Message("", "none", expiration="0"), reaches()),
    _case("expiration -1", MEASURED, (), Message("", "q", expiration="-1"), refuses("publish 0", 406, "invalid expiration '-1': {value_negative,-1}")),
    _case("expiration 1.5", MEASURED, (), Message("", "q", expiration="1.5"), refuses("publish 0", 406, "invalid expiration '1.5': {leftover_string,\".5\"}")),
    _case("expiration abc", MEASURED, (), Message("", "q", expiration="abc"), refuses("publish 0", 406, "invalid expiration 'abc': no_integer")),
    _case("an empty expiration", MEASURED, (), Message("", "q", expiration=""), refuses("publish 0", 406, "invalid expiration '': no_integer")),
)

EXCHANGES = (*SIMPLE, *BETWEEN, *ALTERNATES, *CARRIED, *PUBLISHED)
