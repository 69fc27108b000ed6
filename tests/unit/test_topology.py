"""Topologies: what is refused, in which words, and the ways in and out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange as KombuExchange
from kombu import Queue as KombuQueue
from kombu import binding as kombu_binding
from kombu.common import Broadcast

from tests.support.celery_lines import needs_native_delay
from waybill.celery_app.declared import from_celery
from waybill.errors import InputError, TopologyError, UnknownName
from waybill.routing import Router
from waybill.topology import Binding, Exchange, Message, Queue, Topology
from waybill.topology.definitions import from_definitions, left_out, read_definitions, to_definitions

X, Q = Exchange("x", "topic"), Queue("q")
Q_IN = "for queue 'q' in vhost '/'"


def queue(**arguments: Any) -> Queue:
    return Queue("q", arguments={name.replace("_", "-"): value for name, value in arguments.items()})


def of_type(kind: str, **properties: Any) -> Queue:
    return Queue("q", arguments={"x-queue-type": kind}, **properties)


def bound(**fields: Any) -> Callable[[], Topology]:
    kind = fields.pop("type", "topic")
    binding = Binding(**{"source": "x", "destination": "q", **fields})
    return lambda: Topology([Exchange("x", kind)], [Q], [binding])


# The sentences are RabbitMQ 4.3.6's own, word for word, as its channels closed with them.
REFUSED: list[tuple[Callable[[], Topology], int, str]] = [
    (lambda: Topology([X, Exchange("x", "fanout")]), 406,
     "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'topic'"),
    (lambda: Topology([X, Exchange("x", "topic", durable=False)]), 406,
     "inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'"),
    (lambda: Topology([X, Exchange("x", "topic", arguments={"alternate-exchange": "a"})]), 406,
     "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': "
     "received the value 'a' of type 'longstr' but current is none"),
    (lambda: Topology([Exchange("amq.topic", "direct")]), 406,
     "inequivalent arg 'type' for exchange 'amq.topic' in vhost '/': "
     "received 'direct' but current is 'topic'"),
    (lambda: Topology([X, Exchange("x", "x-consistent-hash")]), 406,
     "inequivalent arg 'type' for exchange 'x' in vhost '/': received ''x-consistent-hash'' but current is 'topic'"),
    (lambda: Topology([Exchange("x", "nope")]), 406, "unknown exchange type 'nope'"),
    (lambda: Topology([Exchange("", "direct")]), 403, "operation not permitted on the default exchange"),
    (lambda: Topology([Exchange("x", arguments={"alternate-exchange": 1})]), 406,
     "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"),
    (lambda: Topology([Exchange("x" * 256)]), 501,
     f"exchange name '{'x' * 20}...' is 256 bytes long, at most 255 are allowed"),
    (lambda: Topology([Exchange("x\udc80")]), 501, "Malformed UTF-8 in shortstr"),
    (lambda: Topology([Exchange("x", arguments={"a" * 256: 1})]), 501,
     f"argument name '{'a' * 20}...' is 256 bytes long, at most 255 are allowed"),
    (lambda: Topology(queues=[queue(x_max_length=2**63)]), 501,
     "argument 'x-max-length' has an integer that AMQP cannot carry: more than 64 bits"),
    (bound(arguments={"a": [{"b": -(2**70)}]}), 501,
     "argument 'a' has an integer that AMQP cannot carry: more than 64 bits"),
    (bound(binding_key="\udc80"), 501, "Malformed UTF-8 in shortstr"),
    (lambda: Topology(queues=[queue(x_max_priority=10), Q]), 406,
     f"inequivalent arg 'x-max-priority' {Q_IN}: "
     "received none but current is the value '10' of type 'signedint'"),
    (lambda: Topology(queues=[queue(x_max_priority=10), queue(x_max_priority=4)]), 406,
     f"inequivalent arg 'x-max-priority' {Q_IN}: received '4' but current is '10'"),
    (lambda: Topology(queues=[Q, of_type("quorum")]), 406,
     f"inequivalent arg 'x-queue-type' {Q_IN}: received 'quorum' but current is 'classic'"),
    (lambda: Topology(queues=[Q, Queue("q", auto_delete=True)]), 406,
     f"inequivalent arg 'auto_delete' {Q_IN}: received 'true' but current is 'false'"),
    (lambda: Topology(queues=[Q, Queue("q", exclusive=True)]), 405,
     "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on "
     "another connection or the exclusive property value does not match that of the original declaration."),
    (lambda: Topology(queues=[queue(x_max_priority=256)]), 406,
     f"invalid arg 'x-max-priority' {Q_IN}: {{max_value_exceeded,256}}"),
    (lambda: Topology(queues=[queue(x_max_priority=-1)]), 406,
     f"invalid arg 'x-max-priority' {Q_IN}: {{value_negative,-1}}"),
    (lambda: Topology(queues=[queue(x_max_priority="5")]), 406,
     f"invalid arg 'x-max-priority' {Q_IN}: \"expected integer, got longstr\""),
    (lambda: Topology(queues=[queue(x_expires=0)]), 406, f"invalid arg 'x-expires' {Q_IN}: {{value_zero,0}}"),
    (lambda: Topology(queues=[queue(x_message_ttl=2**40)]), 406,
     f"invalid arg 'x-message-ttl' {Q_IN}: {{value_too_large,1099511627776}}"),
    (lambda: Topology(queues=[queue(x_overflow="foo")]), 406,
     f"invalid arg 'x-overflow' {Q_IN}: invalid_overflow"),
    (lambda: Topology(queues=[queue(x_dead_letter_routing_key="k")]), 406,
     f"invalid arg 'x-dead-letter-routing-key' {Q_IN}: routing_key_but_no_dlx_defined"),
    (lambda: Topology(queues=[queue(x_dead_letter_exchange=1)]), 406,
     "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"),
    (lambda: Topology(queues=[queue(x_queue_type="foo")]), 406,
     f"invalid arg 'x-queue-type' {Q_IN}: \"unsupported queue type 'foo'\""),
    (lambda: Topology(queues=[queue(x_queue_type="quorum", x_max_priority=10)]), 406,
     f"invalid arg 'x-max-priority' {Q_IN} of queue type rabbit_quorum_queue"),
    (lambda: Topology(queues=[queue(x_delivery_limit=3)]), 406,
     f"invalid arg 'x-delivery-limit' {Q_IN} of queue type rabbit_classic_queue"),
    (lambda: Topology(queues=[of_type("quorum", durable=False)]), 406,
     f"invalid property 'non-durable' {Q_IN}"),
    (lambda: Topology(queues=[of_type("quorum", auto_delete=True)]), 406,
     f"invalid property 'auto-delete' {Q_IN}"),
    (lambda: Topology(queues=[of_type("quorum", exclusive=True)]), 406,
     f"invalid property 'exclusive-owner' {Q_IN}"),
    (bound(binding_key="#.#.#"), 406,
     "Topic binding key '#.#.#' uses 3 '#' wildcards, at most 2 are allowed"),
    (bound(binding_key="k" * 256), 501,
     f"binding key '{'k' * 20}...' is 256 bytes long, at most 255 are allowed"),
    (bound(destination="nope"), 404, "no queue 'nope' in vhost '/'"),
    (bound(source="nope"), 404, "no exchange 'nope' in vhost '/'"),
    (bound(source="nope", destination="nope"), 404, "no exchange 'nope' in vhost '/'"),
    (bound(destination="nope", destination_type="exchange"), 404, "no exchange 'nope' in vhost '/'"),
    (bound(source=""), 403, "operation not permitted on the default exchange"),
    (bound(destination="", destination_type="exchange"), 403,
     "operation not permitted on the default exchange"),
    (bound(type="headers", arguments={"x-match": "ALL"}), 406,
     'Invalid x-match field value <<"ALL">>; expected all, any, all-with-x, or any-with-x'),
    (bound(type="headers", arguments={"x-match": 1}), 406,
     "Invalid x-match field type signedint (value 1); expected longstr"),
    (bound(type="headers", arguments={"x-match": None}), 406,
     "Invalid x-match field type void (value undefined); expected longstr"),
    (bound(type="x-consistent-hash", binding_key="0"), 406, "The binding key must be greater than 0"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "code", "text"), REFUSED, ids=[text[:60] for _, _, text in REFUSED])
def test_what_rabbitmq_refuses_is_refused_in_its_words(build: Callable[[], Topology], code: int, text: str) -> None:
    with pytest.raises(TopologyError) as refusal:
        build()
    assert (refusal.value.reply_code, refusal.value.text) == (code, text)


@pytest.mark.parametrize(
    "queues",
    [
        [Q, queue(x_queue_type="classic")],
        [Q, queue(some_argument=1)],
        [Queue("q", exclusive=True), Queue("q", exclusive=True, durable=False)],
        [queue(x_max_prioritty=300)],
        [queue(x_max_priority=0)],
        [queue(x_queue_type="quorum", x_delivery_limit=-1)],
    ],
)
def test_what_rabbitmq_accepts_is_accepted(queues: list[Queue]) -> None:
    assert Topology(queues=queues).queues == (queues[0],)


def test_values_are_equal_where_rabbitmq_finds_them_equal() -> None:
    assert Binding("x", "q", arguments={"n": 1}) != Binding("x", "q", arguments={"n": True})
    assert Binding("x", "q", arguments={"a": 1, "b": 2}) == Binding("x", "q", arguments={"b": 2, "a": 1})
    assert len({Queue("q"), Queue("q", arguments={}), Queue("q", arguments={"n": 1.0})}) == 2
    one, other = Topology([X], [Q], [Binding("x", "q")]), Topology([X], [Q, Q], [Binding("x", "q")] * 2)
    assert one == other
    assert hash(one) == hash(other)


def test_predeclared_exchanges_are_known_and_not_listed() -> None:
    topology = Topology([Exchange("amq.topic", "topic")], [Q], [Binding("amq.headers", "q")])
    assert topology.exchanges == ()
    found = topology.exchange("amq.match")
    assert found is not None
    assert found.type == "headers"


WHOLE = Topology(
    [X, Exchange("h", "headers", internal=True, arguments={"alternate-exchange": "x"})],
    [Q, Queue("r", auto_delete=True, arguments={"x-max-priority": 5, "x-message-ttl": 10})],
    [
        Binding("x", "q", "a.#"),
        Binding("h", "r", "", {"x-match": "any", "n": 1, "flag": True, "list": [1, "a"], "table": {"k": 1.5}}),
        Binding("x", "h", "*", destination_type="exchange"),
    ],
)


class TestDefinitions:
    def test_out_and_in_again(self) -> None:
        assert from_definitions(json.loads(json.dumps(to_definitions(WHOLE)))) == WHOLE

    def test_unknown_keys_are_left_alone(self) -> None:
        written = to_definitions(WHOLE) | {"users": [{"name": "guest"}], "policies": [], "no such": 1}
        for entry in written["queues"]:
            entry["type"] = "classic"
        assert from_definitions(written) == WHOLE

    def test_a_void_argument_has_no_place_in_json(self) -> None:
        topology = Topology([Exchange("h", "headers")], [Q], [Binding("h", "q", arguments={"n": None})])
        with pytest.raises(InputError, match="binding from 'h' to 'q': argument 'n' is void"):
            to_definitions(topology)

    def test_exclusive_queues_stay_out(self) -> None:
        topology = Topology([X], [Queue("mine", exclusive=True)], [Binding("x", "mine", "k")])
        assert to_definitions(topology)["queues"] == to_definitions(topology)["bindings"] == []

    def test_an_export_leaves_out_exclusive_queues_and_internal_exchanges(self) -> None:
        export: dict[str, Any] = {
            "rabbitmq_version": "4.3.6",
            "bindings": [{"source": "amq.topic", "destination": "mine", "routing_key": "k"}],
        }
        assert from_definitions(export).queues == (Queue("mine", durable=False, exclusive=True),)
        export["bindings"].append({"source": "inside", "destination": "mine"})
        with pytest.raises(InputError, match="exchange 'inside' has bindings and isn't listed"):
            from_definitions(export)

    def test_the_vhost_is_chosen(self) -> None:
        both = {"queues": [{"name": "a", "vhost": "one"}, {"name": "b", "vhost": "two"}]}
        assert from_definitions(both, "two").queues == (Queue("b"),)
        assert from_definitions({"queues": both["queues"][:1]}).vhost == "one"
        with pytest.raises(InputError, match="holds several vhosts, say which: one, two"):
            from_definitions(both)
        with pytest.raises(UnknownName, match=r"no vhost 'tow' in definitions; did you mean 'two'\?"):
            from_definitions(both, "tow")

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ([], "definitions: expected an object with exchanges, queues and bindings, got a list"),
            ({}, "definitions: no definitions: it has no exchanges, queues, bindings or vhosts"),
            ({"name": "shop", "version": "1.0", "scripts": {}},
             "definitions: no definitions: it has no exchanges, queues, bindings or vhosts"),
            ({"bindings": [{"source": "amq.topic", "destination": "q"}]},
             "definitions: bindings[0]: routing_key: expected text, got nothing"),
            ({"bindings": [{"source": "amq.topic", "destination": "q", "routing_key": None}]},
             "definitions: bindings[0]: routing_key: expected text, got null"),
            ({"bindings": [{"source": "amq.direct", "destination": "q", "routing_key": 1}]},
             "definitions: bindings[0]: routing_key: expected text, got 1"),
            ({"policies": [{"name": "p", "pattern": "(", "definition": {}}]},
             "definitions: policies[0]: pattern: '(' is no regular expression: missing ), unterminated subpattern at "
             "position 0"),
            ({"policies": [{"name": "p", "pattern": "x", "priority": "5", "definition": {}}]},
             'definitions: policies[0]: priority: expected a number, got "5"'),
            ({"policies": [{"name": "p", "pattern": "x", "apply-to": "exchange", "definition": {}}]},
             "definitions: policies[0]: apply-to: expected one of all, queues, classic_queues, quorum_queues, streams, "
             'exchanges, got "exchange"'),
            ({"parameters": [{"component": "operator_policy", "name": "o", "value": {}}]},
             "definitions: parameters[0]: value: pattern: expected text, got nothing"),
            ({"queues": {}}, "definitions: queues: expected a list, got an object"),
            ({"queues": [1]}, "definitions: queues[0]: expected an object, got 1"),
            ({"queues": [{}]}, "definitions: queues[0]: name: expected text, got nothing"),
            ({"queues": [{"name": None}]}, "definitions: queues[0]: name: expected text, got null"),
            ({"queues": [{"name": "q", "durable": 1}]},
             "definitions: queues[0]: durable: expected true or false, got 1"),
            ({"queues": [{"name": "q", "arguments": [1]}]},
             "definitions: queues[0]: arguments: expected an object, got a list"),
            ({"bindings": [{"source": "x", "destination": "q", "destination_type": "topic"}]},
             'definitions: bindings[0]: destination_type: expected "queue" or "exchange", got "topic"'),
        ],
    )  # fmt: skip
    def test_a_bad_shape_is_named(self, data: object, message: str) -> None:
        with pytest.raises(InputError) as error:
            from_definitions(data)
        assert str(error.value) == message

    @pytest.mark.parametrize(
        ("source", "expected"),
        [("amq.direct", ()), ("amq.fanout", ("q",)), ("amq.headers", ("q",)), ("dice", ("q",))],
    )
    def test_a_binding_without_a_key(self, source: str, expected: tuple[str, ...]) -> None:
        """As RabbitMQ imports it (4.3.6): a direct exchange sends nothing along it, others ignore keys anyway."""
        document: dict[str, Any] = {
            "exchanges": [{"name": "dice", "type": "x-random"}],
            "queues": [{"name": "q"}],
            "bindings": [{"source": source, "destination": "q", "destination_type": "queue", "arguments": {}}],
        }
        router = Router.of(from_definitions(document))
        assert [router.route(Message(source, key)) for key in ("", "undefined", "q")] == [expected] * 3
        said = "bindings without a routing key, which no message matches (1)"
        assert left_out(document) == ([] if expected else [said])

    def test_each_vhost_has_its_own_policies_and_default_queue_type(self) -> None:
        def vhost(name: str, kind: str) -> dict[str, Any]:
            return {"name": name, "metadata": {"default_queue_type": kind}}

        policy = {"name": "p", "pattern": "", "apply-to": "all", "definition": {"max-length": 5}}
        operator = {"pattern": "", "apply-to": "queues", "definition": {"max-length": 3}, "priority": 0}
        document = {
            "vhosts": [vhost("one", "quorum"), vhost("two", "no such type")],
            "queues": [{"name": "q", "vhost": "one"}, {"name": "q", "vhost": "two"}],
            "policies": [{"vhost": "one", **policy}],
            "parameters": [{"vhost": "two", "component": "operator_policy", "name": "o", "value": operator}],
        }
        (one,), (two,) = (from_definitions(document, name).queues for name in ("one", "two"))
        assert (one.type, one.setting("max-length")) == ("quorum", 5)
        assert (two.type, two.setting("max-length")) == ("classic", 3)
        assert left_out(document) == []

    def test_a_type_of_an_unknown_plugin_leaves_the_rest_as_it_is(self) -> None:
        document = to_definitions(WHOLE)
        document["exchanges"].append({"name": "once", "type": "x-message-deduplication", "vhost": "/"})
        document["bindings"].append({"source": "once", "destination": "q", "routing_key": "k", "vhost": "/"})
        router = Router.of(from_definitions(document))
        assert router.trace(Message("x", "a.b")).queues == ("q",)
        assert router.trace(Message("x", "a.b")).is_certain
        assert not router.trace(Message("once", "k")).is_certain

    def test_a_bad_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "definitions.json"
        with pytest.raises(InputError, match=r"definitions\.json: No such file or directory"):
            read_definitions(path)
        path.write_text("{")
        with pytest.raises(InputError, match=r"definitions\.json: not JSON: .* line 1 column 2"):
            read_definitions(path)
        path.write_text(json.dumps({"queues": [{"name": "q", "arguments": {"x-max-length": "5"}}]}))
        with pytest.raises(InputError, match=r"definitions\.json: 406 invalid arg 'x-max-length' for queue 'q'"):
            read_definitions(path)
        path.write_text(json.dumps(to_definitions(WHOLE)))
        assert read_definitions(path) == WHOLE


class TestCelery:
    def test_a_bare_app_has_the_default_queue(self) -> None:
        topology = from_celery(Celery("app"))
        assert topology == Topology(
            [Exchange("celery", "direct")], [Queue("celery")], [Binding("celery", "celery", "celery")]
        )

    def test_priorities_bindings_and_units_are_as_celery_declares_them(self) -> None:
        app = Celery("app", broker="amqp://nowhere.invalid//")
        headers, images = KombuExchange("headers", "headers"), KombuExchange("images", "topic")
        app.conf.task_queue_max_priority = 7
        app.conf.task_queues = [
            KombuQueue("resize", images, "img.#", message_ttl=1.5),
            KombuQueue("pdf", headers, binding_arguments={"format": "pdf", "x-match": "all"}),
            KombuQueue("both", [kombu_binding(images, "a"), kombu_binding(images, "b")]),
        ]
        topology = from_celery(app)
        assert topology.queue("resize") == Queue("resize", arguments={"x-max-priority": 7, "x-message-ttl": 1500})
        assert Binding("headers", "pdf", "celery", {"format": "pdf", "x-match": "all"}) in topology.bindings
        assert [b.binding_key for b in topology.bindings if b.destination == "both"] == ["a", "b"]

    def test_a_broadcast_queue_has_a_name_that_lasts(self) -> None:
        app = Celery("app")
        app.conf.task_queues = [Broadcast("news"), Broadcast("fixed", queue="shared")]
        topology = from_celery(app)
        assert [queue.name for queue in topology.queues] == ["bcast.news", "shared"]
        assert topology == from_celery(app)
        assert app.amqp.queues["news"].name.startswith("bcast.")  # the app's own object is left alone
        assert app.amqp.queues["news"].name != "bcast.news"

    @needs_native_delay
    def test_a_quorum_queue_brings_delayed_delivery(self) -> None:
        app = Celery("app")
        quorum = {"x-queue-type": "quorum"}
        app.conf.task_queues = [KombuQueue("q", KombuExchange("x", "topic"), "k", queue_arguments=quorum)]
        topology = from_celery(app)
        assert topology.exchange("celery_delayed_27") is not None
        assert Binding("x", "q", "#.k") in topology.bindings
        assert Binding("celery_delayed_delivery", "x", "#.k", destination_type="exchange") in topology.bindings


@pytest.mark.parametrize(("depth", "is_read"), [(90, True), (900, False)])
def test_definitions_are_nested_so_deep(tmp_path: Path, depth: int, is_read: bool) -> None:
    path = tmp_path / "deep.json"
    arguments = '{"a":' * depth + "1" + "}" * depth
    path.write_text(f'{{"queues": [{{"name": "q", "vhost": "/", "arguments": {arguments}}}]}}')
    if is_read:
        assert [queue.name for queue in read_definitions(path).queues] == ["q"]
    else:
        with pytest.raises(InputError, match=r"deep.json: nested more than 100 deep"):
            read_definitions(path)
