"""Rows for declarations that RabbitMQ refuses, in its own words, and for those it takes though one might
doubt it."""

from __future__ import annotations

from typing import Any

from tests.support.cases.case import Case, Declaration, Outcome, refuses
from tests.support.cases.topic import MEASURED, queues
from waybill.topology import Binding, Exchange, Queue

CHANNEL = "rabbit_channel.erl; measured on RabbitMQ 4.3.6"
EXCHANGE = "rabbit_exchange.erl, assert_equivalence/6; measured on RabbitMQ 4.3.6"
QUEUE = "rabbit_amqqueue.erl, check_declare_arguments/2; measured on RabbitMQ 4.3.6"
EQUIVALENT = "rabbit_misc.erl, assert_args_equivalence/4; measured on RabbitMQ 4.3.6"

_DEFAULT = "operation not permitted on the default exchange"


def _refused(claim: str, source: str, code: int, text: str, *declare: Declaration) -> Case:
    """The last declaration is the one refused."""
    return Case(claim, source, declare, (), refuses(f"declare {len(declare) - 1}", code, text))


def _taken(claim: str, *declare: Declaration) -> Case:
    return Case(claim, MEASURED, declare, (), Outcome())


_BINDINGS = (
    _refused(
        "bind from an exchange that is missing",
        CHANNEL,
        404,
        "no exchange 'n' in vhost '/'",
        *queues("q"),
        Binding("n", "q"),
    ),
    _refused(
        "bind to a queue that is missing",
        CHANNEL,
        404,
        "no queue 'n' in vhost '/'",
        Exchange("d"),
        Binding("d", "n"),
    ),
    _refused(
        "bind to an exchange that is missing",
        CHANNEL,
        404,
        "no exchange 'n' in vhost '/'",
        Exchange("d"),
        Binding("d", "n", destination_type="exchange"),
    ),
    _refused("bind from the default exchange", CHANNEL, 403, _DEFAULT, *queues("q"), Binding("", "q", "k")),
    _refused(
        "bind the default exchange",
        CHANNEL,
        403,
        _DEFAULT,
        Exchange("d"),
        Binding("d", "", destination_type="exchange"),
    ),
    _taken("the same binding twice", Exchange("d"), *queues("q"), Binding("d", "q", "k"), Binding("d", "q", "k")),
)


def _unequal(field: str, received: str, current: str, new: Exchange) -> Case:
    difference = f"received {received} but current is {current}"
    text = f"inequivalent arg '{field}' for exchange 'x' in vhost '/': {difference}"
    return _refused(f"an exchange with another {field}", EXCHANGE, 406, text, Exchange("x", "topic"), new)


_EXCHANGES = (
    _refused("declare the default exchange", CHANNEL, 403, _DEFAULT, Exchange("")),
    _refused(
        "an exchange amq.*",
        CHANNEL,
        403,
        "exchange name 'amq.x' contains reserved prefix 'amq.*'",
        Exchange("amq.x"),
    ),
    _refused(
        "an exchange type that doesn't exist",
        EXCHANGE,
        406,
        "unknown exchange type 'no-such-type'",
        Exchange("x", "no-such-type"),
    ),
    _refused(
        "an alternate exchange that is no text",
        EXCHANGE,
        406,
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
        Exchange("x", arguments={"alternate-exchange": 1}),
    ),
    _unequal("type", "'direct'", "'topic'", Exchange("x", "direct")),
    _unequal("durable", "'false'", "'true'", Exchange("x", "topic", durable=False)),
    _unequal("auto_delete", "'true'", "'false'", Exchange("x", "topic", auto_delete=True)),
    _unequal("internal", "'true'", "'false'", Exchange("x", "topic", internal=True)),
    _unequal(
        "alternate-exchange",
        "the value 'b' of type 'longstr'",
        "none",
        Exchange("x", "topic", arguments={"alternate-exchange": "b"}),
    ),
    _taken("the same exchange twice", Exchange("x", "topic"), Exchange("x", "topic")),
    _taken("amq.topic as it is", Exchange("amq.topic", "topic")),
)


def _queue(arguments: dict[str, Any], **flags: Any) -> Queue:
    return Queue("q", arguments=arguments, **flags)


def _argument(argument: str, value: Any, term: str) -> Case:
    text = f"invalid arg '{argument}' for queue 'q' in vhost '/': {term}"
    return _refused(f"{argument} {value!r}", QUEUE, 406, text, _queue({argument: value}))


def _property(name: str, **flags: bool) -> Case:
    text = f"invalid property '{name}' for queue 'q' in vhost '/'"
    return _refused(f"a quorum queue that is {name}", QUEUE, 406, text, _queue({"x-queue-type": "quorum"}, **flags))


def _wrong_type(argument: str, kind: str) -> Case:
    text = f"invalid arg '{argument}' for queue 'q' in vhost '/' of queue type rabbit_{kind}_queue"
    return _refused(f"{argument} on a {kind} queue", QUEUE, 406, text, _queue({"x-queue-type": kind, argument: 5}))


_ARGUMENTS = (
    _argument("x-max-priority", 256, "{max_value_exceeded,256}"),
    _argument("x-max-priority", -1, "{value_negative,-1}"),
    _argument("x-max-priority", "5", '"expected integer, got longstr"'),
    _argument("x-max-priority", 1.5, '"expected integer, got double"'),
    _argument("x-message-ttl", -1, "{value_negative,-1}"),
    _argument("x-message-ttl", "1", '"expected integer, got longstr"'),
    _argument("x-max-length", -1, "{value_negative,-1}"),
    _argument("x-overflow", "foo", "invalid_overflow"),
    _argument("x-expires", 0, "{value_zero,0}"),
    _argument("x-queue-type", "foo", "\"unsupported queue type 'foo'\""),
    _argument("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined"),
    _refused(
        "a dead-letter exchange that is no text",
        QUEUE,
        406,
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
        _queue({"x-dead-letter-exchange": 1}),
    ),
    _wrong_type("x-max-priority", "quorum"),
    _wrong_type("x-delivery-limit", "classic"),
    _property("non-durable", durable=False),
    _property("exclusive-owner", exclusive=True),
    _property("auto-delete", auto_delete=True),
    _refused("a queue amq.*", CHANNEL, 403, "queue name 'amq.q' contains reserved prefix 'amq.*'", Queue("amq.q")),
    _taken("x-max-priority 0", _queue({"x-max-priority": 0})),
    _taken("x-max-priority 255", _queue({"x-max-priority": 255})),
    _taken("an argument nobody knows", _queue({"x-foo": 5})),
    _taken("a dead-letter exchange that is missing", _queue({"x-dead-letter-exchange": "n"})),
    _taken("no delivery limit", _queue({"x-queue-type": "quorum", "x-delivery-limit": -1})),
)


def _again(claim: str, argument: str, difference: str, first: Queue, second: Queue) -> Case:
    text = f"inequivalent arg '{argument}' for queue 'q' in vhost '/': {difference}"
    return _refused(claim, EQUIVALENT, 406, text, first, second)


_TEN = {"x-max-priority": 10}

_REDECLARED = (
    _again(
        "x-max-priority left out",
        "x-max-priority",
        "received none but current is the value '10' of type 'signedint'",
        _queue(_TEN),
        _queue({}),
    ),
    _again(
        "x-max-priority added",
        "x-max-priority",
        "received the value '10' of type 'signedint' but current is none",
        _queue({}),
        _queue(_TEN),
    ),
    _again(
        "x-max-priority changed",
        "x-max-priority",
        "received '5' but current is '10'",
        _queue(_TEN),
        _queue({"x-max-priority": 5}),
    ),
    _again(
        "no longer durable",
        "durable",
        "received 'false' but current is 'true'",
        _queue({}),
        _queue({}, durable=False),
    ),
    _again(
        "now auto-delete",
        "auto_delete",
        "received 'true' but current is 'false'",
        _queue({}),
        _queue({}, auto_delete=True),
    ),
    _again(
        "now a quorum queue",
        "x-queue-type",
        "received 'quorum' but current is 'classic'",
        _queue({}),
        _queue({"x-queue-type": "quorum"}),
    ),
    _again(
        "another TTL",
        "x-message-ttl",
        "received '6' but current is '5'",
        _queue({"x-message-ttl": 5}),
        _queue({"x-message-ttl": 6}),
    ),
    _again(
        "x-overflow left out",
        "x-overflow",
        "received none but current is the value 'drop-head' of type 'longstr'",
        _queue({"x-overflow": "drop-head"}),
        _queue({}),
    ),
    _again(
        "another dead-letter exchange",
        "x-dead-letter-exchange",
        "received 'b' but current is 'a'",
        _queue({"x-dead-letter-exchange": "a"}),
        _queue({"x-dead-letter-exchange": "b"}),
    ),
    _taken("the default type said aloud", _queue({}), _queue({"x-queue-type": "classic"})),
    _taken("an unknown argument added", _queue({}), _queue({"x-foo": 1})),
)

DECLARATIONS = (*_BINDINGS, *_EXCHANGES, *_ARGUMENTS, *_REDECLARED)
