"""What is predicted of a declaration is what the broker answers, word for word: each change, both ways around."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from amqp.exceptions import AMQPError
from kombu import Connection, Exchange, Queue, binding

from tests.support.diff_support import Site, site, wire_text
from tests.support.programs import until
from waybill.diff import Failure, predicted
from waybill.diff.declared import Declared
from waybill.diff.predicted import answers
from waybill.testing.brokers import Address
from waybill.topology import Exchange as EngineExchange
from waybill.topology import Queue as EngineQueue
from waybill.topology.declarations import EXCHANGE_TYPES

QUORUM, CLASSIC = {"x-queue-type": "quorum"}, {"x-queue-type": "classic"}
DLX, KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"


def queue(arguments: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return {"queue_arguments": arguments or {}, **options}


def exchange(kind: str = "topic", **options: Any) -> dict[str, Any]:
    return {"exchange": {"type": kind, **options}}


# What changes -> the two declarations of one name.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": (queue({"x-max-priority": 5}), queue({"x-max-priority": 5})),
    "the default type said aloud": (queue(), queue(CLASSIC)),
    "type": (queue(), queue(QUORUM)),
    "durable": (queue(), queue(durable=False)),
    "auto-delete": (queue(), queue(auto_delete=True)),
    "durable and auto-delete": (queue(), queue(durable=False, auto_delete=True)),
    "durable and a priority": (queue({"x-max-priority": 5}), queue(durable=False)),
    "x-max-priority added": (queue(), queue({"x-max-priority": 10})),
    "x-max-priority": (queue({"x-max-priority": 5}), queue({"x-max-priority": 10})),
    "max_priority, Kombu's own": (queue(max_priority=5), queue({"x-max-priority": 10})),
    "x-message-ttl added": (queue(), queue({"x-message-ttl": 60_000})),
    "x-message-ttl": (queue({"x-message-ttl": 1}), queue({"x-message-ttl": 60_000})),
    "x-message-ttl of a quorum queue": (queue(QUORUM), queue(QUORUM | {"x-message-ttl": 60_000})),
    "message_ttl, in seconds": (queue(message_ttl=1), queue({"x-message-ttl": 1001})),
    "a long TTL": (queue(), queue({"x-message-ttl": 2**33})),
    "x-expires": (queue({"x-expires": 60_000}), queue({"x-expires": 70_000})),
    "expires, in seconds": (queue(), queue(expires=60)),
    "a dead-letter exchange added": (queue(), queue({DLX: "dead"})),
    "a dead-letter exchange": (queue({DLX: "dead"}), queue({DLX: "gone"})),
    "a dead-letter exchange with umlauts": (queue({DLX: "dead"}), queue({DLX: "töt"})),
    "a dead-letter key": (queue({DLX: "dead"}), queue({DLX: "dead", KEY: "k"})),
    "x-max-length": (queue(), queue({"x-max-length": 3})),
    "x-overflow": (queue({"x-overflow": "drop-head"}), queue({"x-overflow": "reject-publish"})),
    "x-single-active-consumer": (queue(), queue({"x-single-active-consumer": True})),
    "x-single-active-consumer the other way": (
        queue({"x-single-active-consumer": False}),
        queue({"x-single-active-consumer": True}),
    ),
    "x-delivery-limit": (queue(QUORUM), queue(QUORUM | {"x-delivery-limit": 3})),
    "an argument that nobody knows": (queue(), queue({"x-max-prioritty": 5})),
    "two arguments": (queue({"x-max-priority": 1, "x-expires": 60_000}), queue()),
    "a sentence that is too long for the wire": (queue({DLX: "d" * 200}), queue({DLX: "e" * 200})),
    "exchange type": (exchange("topic"), exchange("direct")),
    "exchange type headers": (exchange("headers"), exchange("fanout")),
    "exchange durable": (exchange(), exchange(durable=False)),
    "exchange auto-delete": (exchange(), exchange(auto_delete=True)),
    "alternate exchange added": (exchange(), exchange(arguments={"alternate-exchange": "a"})),
    "alternate exchange": (
        exchange(arguments={"alternate-exchange": "a"}),
        exchange(arguments={"alternate-exchange": "b"}),
    ),
}
ON_RABBITMQ_ALONE = {
    "stream": (queue(), queue({"x-queue-type": "stream"})),
    "x-queue-leader-locator": (queue(QUORUM), queue(QUORUM | {"x-queue-leader-locator": "balanced"})),
    "exchange type, a plugin's": (exchange("fanout"), exchange("x-recent-history")),
}
# The same in a vhost whose queues are quorum queues unless they say otherwise.
IN_A_QUORUM_VHOST: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the default type said aloud": (queue(), queue(QUORUM)),
    "type": (queue(), queue(CLASSIC)),
    "durable": (queue(), queue(durable=False)),
    "auto-delete": (queue(), queue(auto_delete=True)),
    "type and a priority": (queue(QUORUM), queue(CLASSIC | {"x-max-priority": 5})),
    "x-message-ttl": (queue(), queue({"x-message-ttl": 5})),
    "exchange type": (exchange("topic"), exchange("direct")),
}
# Declarations that are refused where nothing of that name lives.
REFUSED: dict[str, dict[str, Any]] = {
    "a priority too high": queue({"x-max-priority": 256}),
    "a priority that is text": queue({"x-max-priority": "5"}),
    "a quorum queue with a priority": queue(QUORUM | {"x-max-priority": 5}),
    "a quorum queue that is transient": queue(QUORUM, durable=False),
    "a quorum queue that is auto-delete": queue(QUORUM, auto_delete=True),
    "a dead-letter key alone": queue({KEY: "k"}),
    "a type that nobody knows": queue({"x-queue-type": "fast"}),
    "an exchange type that nobody knows": exchange("x-fast"),
    "a binding key with three #": {**exchange(), "routing_key": "#.a.#.b.#"},
}
REFUSED_BY_A_QUORUM_VHOST: dict[str, dict[str, Any]] = {
    "a priority": queue({"x-max-priority": 5}),
    "a mode of classic queues": queue({"x-queue-mode": "lazy"}),
}
WAYS = pytest.mark.parametrize("is_reversed", [False, True], ids=["there", "back"])


@pytest.fixture(scope="module")
def here(waybill_broker: Address) -> Iterator[Site]:
    """A vhost on each broker."""
    with site(waybill_broker) as made:
        yield made


@pytest.fixture(scope="module")
def there(rabbitmq: Address) -> Iterator[Site]:
    """A vhost on RabbitMQ."""
    with site(rabbitmq) as made:
        yield made


@pytest.fixture(scope="module")
def quorum(rabbitmq: Address) -> Iterator[Site]:
    """A vhost on RabbitMQ whose default queue type is quorum."""
    with site(rabbitmq, "quorum") as made:
        yield made


def made(name: str, options: dict[str, Any]) -> Queue:
    """A queue and its exchange, both of that name."""
    described = options.get("exchange", {"type": "topic"})
    rest = {key: value for key, value in options.items() if key != "exchange"}
    return Queue(name, Exchange(f"{name}.x", **described), **{"routing_key": name, **rest})


def hold(at: Site, name: str, first: dict[str, Any], second: dict[str, Any]) -> str | None:
    """Let the first live, and compare what is predicted of the second with what it gets."""
    assert at.declare(made(name, first)) is None
    again = made(name, second)
    failures = at.plan(again).failures
    foreseen = next(map(wire_text, failures), None)
    assert foreseen == at.declare(again)
    for failure in failures:
        check_match(at, failure)
    return foreseen


def check_match(at: Site, failure: Failure) -> None:
    """The first way out, the code that matches what lives, is taken by the broker as it stands."""
    title, code = failure.remedies[0]
    assert title.startswith("match it")
    matching = eval(code.replace(", ...", ""), {"Queue": Queue, "Exchange": Exchange})
    with Connection(at.address.url) as connection:
        matching(connection.channel()).declare()


def named(change: str, is_reversed: bool) -> str:
    return f"{change}{' back' if is_reversed else ''}"


@WAYS
@pytest.mark.parametrize("change", CHANGES)
def test_a_change(here: Site, change: str, is_reversed: bool) -> None:
    first, second = CHANGES[change][::-1] if is_reversed else CHANGES[change]
    foreseen = hold(here, named(change, is_reversed), first, second)
    is_nothing = change in ("nothing", "the default type said aloud", "an argument that nobody knows")
    assert (foreseen is None) == is_nothing


@WAYS
@pytest.mark.parametrize("change", ON_RABBITMQ_ALONE)
def test_a_change_on_rabbitmq(there: Site, change: str, is_reversed: bool) -> None:
    first, second = ON_RABBITMQ_ALONE[change][::-1] if is_reversed else ON_RABBITMQ_ALONE[change]
    assert hold(there, named(change, is_reversed), first, second) is not None


@WAYS
@pytest.mark.parametrize("change", IN_A_QUORUM_VHOST)
def test_a_change_in_a_quorum_vhost(quorum: Site, change: str, is_reversed: bool) -> None:
    first, second = IN_A_QUORUM_VHOST[change][::-1] if is_reversed else IN_A_QUORUM_VHOST[change]
    foreseen = hold(quorum, named(change, is_reversed), first, second)
    assert (foreseen is None) == (change == "the default type said aloud")


@pytest.mark.parametrize("name", REFUSED)
def test_a_declaration_that_is_never_taken(here: Site, name: str) -> None:
    foreseen = here.predicted(made(name, REFUSED[name]))
    assert foreseen == here.declare(made(name, REFUSED[name]))
    assert foreseen is not None


@pytest.mark.parametrize("name", REFUSED_BY_A_QUORUM_VHOST)
def test_a_declaration_that_a_quorum_vhost_never_takes(quorum: Site, name: str) -> None:
    options = REFUSED_BY_A_QUORUM_VHOST[name]
    foreseen = quorum.predicted(made(name, options))
    assert foreseen == quorum.declare(made(name, options))
    assert foreseen is not None


@WAYS
def test_the_vhost_changes_its_default_type(rabbitmq: Address, is_reversed: bool) -> None:
    first, second = ("quorum", "classic") if is_reversed else ("classic", "quorum")
    with site(rabbitmq, first) as at:
        assert at.declare(made("q", queue())) is None
        at.api("PUT", f"vhosts/{at.address.vhost}", {"default_queue_type": second})
        foreseen = at.predicted(made("q", queue()))
        assert foreseen is not None
        assert f"received '{second}' but current is '{first}'" in foreseen
        assert foreseen == at.declare(made("q", queue()))
        (failure,) = at.plan(made("q", queue())).failures
        assert (failure.argument, failure.declared, failure.live) == ("x-queue-type", second, first)


@pytest.mark.parametrize("argument", ["x-message-ttl", "x-max-length", "x-expires", DLX])
@WAYS
def test_a_policy_changes_no_answer(there: Site, argument: str, is_reversed: bool) -> None:
    """Whether the code repeats what a policy sets or not, only the declaration that made the queue counts."""
    name, value = named(f"policy {argument}", is_reversed), "dead" if argument == DLX else 60_000
    policy = {"pattern": f"^{name}$", "definition": {argument.removeprefix("x-"): value}, "apply-to": "queues"}
    there.api("PUT", f"policies/{there.address.vhost}/{argument}{is_reversed}", policy)
    pair = queue(), queue({argument: value})
    first, second = pair[::-1] if is_reversed else pair
    assert there.declare(made(name, first)) is None
    until(lambda: _policy(there, name) == f"{argument}{is_reversed}")
    foreseen = there.predicted(made(name, second))
    assert foreseen == there.declare(made(name, second))
    assert foreseen is not None
    (failure,) = there.plan(made(name, second)).failures
    assert f"{argument.removeprefix('x-')}={value} anyway" in failure.remedies[0][0]


def _policy(at: Site, name: str) -> str:
    found: str = at.api("GET", f"queues/{at.address.vhost}/{name}").get("policy", "")
    return found


@pytest.mark.parametrize("kind", sorted(EXCHANGE_TYPES))
def test_an_exchange_type(there: Site, kind: str) -> None:
    """Whether a plugin brings it or not, and which word RabbitMQ has for it then."""
    key = "1" if kind == "x-consistent-hash" else "k"
    one = Queue(kind, Exchange(f"{kind}.x", kind), key)
    assert there.predicted(one) == there.declare(one)


@pytest.mark.parametrize(("options", "key"), [(queue(), ""), (queue(), "kö"), (queue(QUORUM), "")])
def test_a_binding_to_a_local_random_exchange(there: Site, options: dict[str, Any], key: str) -> None:
    name = f"local {key} {len(options['queue_arguments'])}"
    one = Queue(name, [binding(Exchange(f"{name}.x", "x-local-random"), key)], **options)  # Celery fills an empty key
    foreseen = there.predicted(one)
    assert foreseen == there.declare(one)
    assert (foreseen is None) == (name == "local  0")


def test_an_exclusive_queue_of_another_connection(here: Site) -> None:
    one = Queue("exclusive", Exchange("exclusive.x"), "k", exclusive=True)
    with Connection(here.address.url) as connection:
        one(connection.channel()).declare()
        for again in (one, Queue("exclusive", Exchange("exclusive.x"), "k")):
            foreseen = here.predicted(again)
            assert foreseen == here.declare(again)
            assert foreseen is not None
            assert foreseen.startswith("405 RESOURCE_LOCKED - cannot obtain exclusive access")


def test_a_queue_that_is_awaited(here: Site) -> None:
    """A worker that declares nothing consumes it, and that is refused."""
    one = Queue("awaited", Exchange("awaited.x"), "k", no_declare=True)
    with Connection(here.address.url) as connection:
        with pytest.raises(AMQPError) as caught:
            connection.channel().basic_consume("awaited")
        assert here.predicted(one) == wire_text(caught.value)
    assert here.plan(one).create == ()


def test_transient_queues_that_the_broker_denies(there: Site) -> None:
    """Measured on RabbitMQ 4.3.6 with `deprecated_features.permit.transient_nonexcl_queues = false`: a new one is
    541, one that lives is compared as ever."""
    assert there.declare(made("transient", queue(durable=False))) is None
    live = replace(there.live(), denied=frozenset({predicted.TRANSIENT}))
    old, new, exclusive = (
        EngineQueue("transient", durable=False),
        EngineQueue("new", durable=False),
        EngineQueue("own", durable=False, exclusive=True),
    )
    told = dict(answers(Declared(queues=(old, new, exclusive)), live))
    assert old not in told
    assert told[exclusive] is None
    error = told[new]
    assert error is not None
    assert (error.reply_code, error.text) == (541, "Feature `transient_nonexcl_queues` is deprecated.")


def test_what_follows_a_refusal_is_not_predicted(there: Site) -> None:
    """A worker ends there: of a refused exchange or queue, no binding is said to come, or to be refused."""
    assert there.declare(made("first", exchange("topic"))) is None
    changed = Queue("first", Exchange("first.x", "direct"), "another")
    plan = there.plan(changed)
    assert [failure.item for failure in plan.failures] == [EngineExchange("first.x", "direct")]
    assert plan.create == ()
