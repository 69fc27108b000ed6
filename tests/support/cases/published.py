"""Rows for what a publication carries (CC and BCC, an expiration) and for publications that are refused."""

from __future__ import annotations

from tests.support.cases.case import Declaration, reaches, refuses
from tests.support.cases.exchanges import ROUTE, routed, to_exchange, with_alternate
from tests.support.cases.topic import MEASURED, queues
from waybill.topology import Binding, Exchange, Message

COPIES = "https://www.rabbitmq.com/docs/sender-selected"

_D: tuple[Declaration, ...] = (Exchange("d"), *queues("q", "r"))
_DQR: tuple[Declaration, ...] = (*_D, Binding("d", "q", "k"), Binding("d", "r", "l"))
_BAD = 'invalid message: {{unacceptable_type_in_header,"{}",{}}}'

CARRIED = (
    routed("CC adds routing keys", COPIES, _DQR, Message("d", "k", {"CC": ["l"]}), reaches("q", "r")),
    routed("BCC adds routing keys", COPIES, _DQR, Message("d", "z", {"BCC": ["l", "k"]}), reaches("q", "r")),
    routed(
        "CC on the default exchange",
        COPIES,
        queues("q", "r"),
        Message("", "q", {"CC": ["r"]}),
        reaches("q", "r"),
    ),
    routed(
        "BCC on the default exchange",
        COPIES,
        queues("q", "r"),
        Message("", "z", {"BCC": ["r"]}),
        reaches("r"),
    ),
    routed(
        "CC with the same key: one copy",
        COPIES,
        _DQR,
        Message("d", "k", {"CC": ["k", "k"], "BCC": ["k"]}),
        reaches("q"),
    ),
    routed("bytes in CC are no key", MEASURED, queues("q"), Message("", "z", {"CC": [b"q"]}), reaches()),
    routed(
        "what is no text in CC is passed over",
        MEASURED,
        queues("q"),
        Message("", "z", {"CC": [1, None, "q"]}),
        reaches("q"),
    ),
    routed("CC is spelt in capitals", MEASURED, queues("q"), Message("", "z", {"cc": ["q"]}), reaches()),
    routed("an empty CC", MEASURED, queues("q"), Message("", "q", {"CC": []}), reaches("q")),
    routed(
        "CC as text is refused",
        MEASURED,
        queues("q"),
        Message("", "q", {"CC": "q"}),
        refuses("publish 0", 406, _BAD.format("CC", "longstr")),
    ),
    routed(
        "CC as void is refused",
        MEASURED,
        queues("q"),
        Message("", "q", {"CC": None}),
        refuses("publish 0", 406, _BAD.format("CC", "void")),
    ),
    routed(
        "BCC as text is refused",
        MEASURED,
        queues("q"),
        Message("", "q", {"BCC": "q"}),
        refuses("publish 0", 406, _BAD.format("BCC", "longstr")),
    ),
    routed(
        "CC on exchange after exchange",
        ROUTE,
        (Exchange("f", "fanout"), *_DQR, to_exchange("f", "d")),
        Message("f", "k", {"CC": ["l"]}),
        reaches("q", "r"),
    ),
    routed(
        "one key matched is enough to suppress the alternate",
        ROUTE,
        (
            with_alternate("d", "direct", "f"),
            Exchange("f", "fanout"),
            *queues("q", "r"),
            Binding("d", "q", "k"),
            Binding("f", "r"),
        ),
        Message("d", "z", {"CC": ["k"]}),
        reaches("q"),
    ),
)

PUBLICATIONS = (
    routed(
        "no such exchange: 404",
        MEASURED,
        (),
        Message("nowhere", "k"),
        refuses("publish 0", 404, "no exchange 'nowhere' in vhost '/'"),
    ),
    routed(
        "an internal exchange takes no publication: 403",
        MEASURED,
        (Exchange("i", internal=True),),
        Message("i"),
        refuses("publish 0", 403, "cannot publish to internal exchange 'i' in vhost '/'"),
    ),
    routed("expiration 0 is allowed", MEASURED, (), Message("", "none", expiration="0"), reaches()),
    routed(
        "expiration -1",
        MEASURED,
        (),
        Message("", "q", expiration="-1"),
        refuses("publish 0", 406, "invalid expiration '-1': {value_negative,-1}"),
    ),
    routed(
        "expiration 1.5",
        MEASURED,
        (),
        Message("", "q", expiration="1.5"),
        refuses("publish 0", 406, "invalid expiration '1.5': {leftover_string,\".5\"}"),
    ),
    routed(
        "expiration abc",
        MEASURED,
        (),
        Message("", "q", expiration="abc"),
        refuses("publish 0", 406, "invalid expiration 'abc': no_integer"),
    ),
    routed(
        "an empty expiration",
        MEASURED,
        (),
        Message("", "q", expiration=""),
        refuses("publish 0", 406, "invalid expiration '': no_integer"),
    ),
)

PUBLISHED = (*CARRIED, *PUBLICATIONS)
