"""`waybill declare` on both brokers: all of the topology, or nothing and the broker's reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from amqp.exceptions import NotFound
from celery import Celery
from kombu import Connection, Exchange, Queue, binding
from kombu.common import Broadcast

from tests.support.apps.diffed import NEW, app
from tests.support.diff_support import Site, application, names, site, wire_text
from tests.support.programs import Result, call
from waybill.celery_app.installed import HAS_NATIVE_DELAY
from waybill.diff import declared_by
from waybill.diff.provision import Outcome
from waybill.diff.provision import declare as declare_on
from waybill.testing import brokers
from waybill.testing.brokers import Address

NEWS = Exchange("news", "topic")
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def at(waybill_broker: Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A vhost, and the application at it; nobody knows of a management API."""
    with site(waybill_broker) as made, brokers.use_broker(app, made.address.url):
        monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
        yield made


def declare(*arguments: str) -> Result:
    return call("waybill.cli", "-A", "tests.support.apps.diffed", "declare", *arguments)


def declared(at: Site, *queues: Queue, **settings: Any) -> Outcome:
    """What comes of declaring an application with these queues."""
    with Connection(at.address.url) as connection:
        return declare_on(connection, declared_by(application(*queues, **settings)), at.address.vhost)


def lives(at: Site, exchanges: Sequence[str] = (), queues: Sequence[str] = ()) -> list[str]:
    """Which of these are there."""
    with Connection(at.address.url) as connection:
        channel = connection.channel()
        asked = [(name, channel.exchange_declare, {"type": "topic"}) for name in exchanges]
        asked += [(name, channel.queue_declare, {}) for name in queues]
        return [name for name, ask, options in asked if _is_there(ask, name, options)]


def _is_there(ask: Any, name: str, options: dict[str, str]) -> bool:
    try:
        ask(name, passive=True, **options)
    except NotFound:
        return False
    return True


def test_declare_and_again(at: Site) -> None:
    result = declare()
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [*NEW, f"vhost {at.address.vhost}: 6 new, all bound (3 bindings)"]
    with Connection(at.address.url, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer()
        for exchange, key in (("news", "usa.texas"), ("pictures", "resize"), ("celery", "celery")):
            producer.publish({}, exchange=exchange, routing_key=key, mandatory=True)
        channel: Any = connection.channel()
        taken = [channel.basic_get(queue, no_ack=True) is not None for queue in ("usa", "resize", "celery")]
    assert taken == [True, True, True]
    (again,) = declare("--json").objects
    assert again == {"vhost": at.address.vhost, "created": [], "fail": []}


def test_celerys_own_way_needs_nothing_more(at: Site) -> None:
    """What Kombu declares afterwards is there as it wants it, native delay and exchanges between exchanges too."""
    feed = {Exchange("all", "fanout"): [binding(NEWS, "usa.#")]}
    queues = Queue("usa", NEWS, "usa.#", queue_arguments=QUORUM), Queue("log", Exchange("all", "fanout"), "")
    outcome = declared(at, *queues, waybill_exchange_bindings=feed, broker_native_delayed_delivery_queue_type="classic")
    assert outcome.failures == ()
    delayed = {"celery_delayed_27", "celery_delayed_delivery"} if HAS_NATIVE_DELAY else set()
    assert {"usa", "log", "all", "news", *delayed} <= set(names(outcome.made))
    for queue in queues:
        assert at.declare(queue) is None
    with Connection(at.address.url, transport_options={"confirm_publish": True}) as connection:
        entry = ("celery_delayed_delivery", "0.0.usa.delayed") if HAS_NATIVE_DELAY else ("news", "usa.delayed")
        for exchange, key in (entry, ("news", "usa.x")):
            connection.Producer().publish({}, exchange=exchange, routing_key=key, mandatory=True)
        channel: Any = connection.channel()
        assert [channel.basic_get(name, no_ack=True) is not None for name in ("usa", "log")] == [True, True]


# What lives -> what is declared beside a queue and exchange that are new.
CONFLICTS: dict[str, tuple[Queue, Queue]] = {
    "priority": (Queue("q", NEWS, "k", max_priority=5), Queue("q", NEWS, "k")),
    "type": (Queue("q", NEWS, "k"), Queue("q", NEWS, "k", queue_arguments=QUORUM)),
    "exchange": (Queue("q", NEWS, "k"), Queue("q", Exchange("news", "direct"), "k")),
    "both": (Queue("q", NEWS, "k"), Queue("q", Exchange("news", "direct"), "k", durable=False)),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_a_conflict_declares_nothing(at: Site, name: str) -> None:
    living, changed = CONFLICTS[name]
    assert at.declare(living) is None
    first = at.predicted(changed)
    outcome = declared(at, Queue("new", Exchange("new.x"), "k"), changed)
    assert (outcome.made, outcome.bound) == ((), 0)
    assert len(outcome.failures) == (2 if name == "both" else 1)
    assert wire_text(outcome.failures[0]) == first
    assert lives(at, ["new.x"], ["new"]) == []


# A declaration that no broker takes -> its refusal.
REFUSED: dict[str, tuple[Queue, int]] = {
    "priority": (Queue("bad", NEWS, "k", queue_arguments={"x-max-priority": 256}), 406),
    "reserved": (Queue("amq.bad", NEWS, "k"), 403),
    "key": (Queue("bad", NEWS, "#.a.#.b.#"), 406),
    "type": (Queue("bad", Exchange("bad.x", "x-fast"), "k"), 406),
    "exchange": (Queue("bad", [binding(Exchange("absent", no_declare=True), "k")]), 404),
    "long": (Queue("b" * 300, Exchange("bad.x"), "k"), 501),
    "half a pair": (Queue("b\udc80", NEWS, "k"), 501),
    "wide": (Queue("bad", NEWS, "k", queue_arguments={"x-max-length": 2**70}), 501),
    "wide within": (Queue("bad", NEWS, "k", queue_arguments={"x-other": {"a": [1, -(2**63) - 1]}}), 501),
    "a long argument": (Queue("bad", NEWS, "k", queue_arguments={"x" * 256: 1}), 501),
    "awaited": (Queue("bad", NEWS, "k", no_declare=True), 404),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_never_taken_declares_nothing(at: Site, name: str) -> None:
    queue, code = REFUSED[name]
    foreseen = at.predicted(queue)
    outcome = declared(at, Queue("new", Exchange("new.x"), "k"), queue)
    assert [failure.reply_code for failure in outcome.failures] == [code]
    assert wire_text(outcome.failures[0]) == foreseen
    assert lives(at, ["new.x", "news", "bad.x"], ["new", "bad"]) == []


def test_an_exchange_that_others_declare(at: Site) -> None:
    """It is bound to, and isn't declared."""
    with Connection(at.address.url) as connection:
        NEWS(connection.channel()).declare()
    outcome = declared(at, Queue("usa", [binding(Exchange("news", no_declare=True), "usa.#")]))
    assert (outcome.failures, names(outcome.made), outcome.bound) == ((), ["usa"], 1)


def test_what_belongs_to_workers_is_left_to_them(at: Site) -> None:
    outcome = declared(at, Queue("usa", NEWS, "u"), Broadcast("everyone"), Queue("own", NEWS, "o", exclusive=True))
    assert (outcome.failures, outcome.bound) == ((), 1)
    assert sorted(names(outcome.made)) == ["everyone", "news", "usa"]


def test_refusals_at_the_terminal(at: Site) -> None:
    assert at.declare(Queue("usa", NEWS, "usa.#", durable=False)) is None
    assert at.declare(Queue("resize", Exchange("pictures", "topic"), "resize")) is None
    result = declare()
    vhost = at.address.vhost
    assert (result.code, result.err) == (1, "")
    assert result.out.splitlines() == [
        "! exchange pictures (direct): 406 PRECONDITION_FAILED - "
        f"inequivalent arg 'type' for exchange 'pictures' in vhost '{vhost}': received 'direct' but current is 'topic'",
        "! queue usa (classic): 406 PRECONDITION_FAILED - "
        f"inequivalent arg 'durable' for queue 'usa' in vhost '{vhost}': received 'true' but current is 'false'",
        "! queue resize (classic) [x-max-priority=10]: 406 PRECONDITION_FAILED - "
        f"inequivalent arg 'x-max-priority' for queue 'resize' in vhost '{vhost}': "
        "received the value '10' of type 'signedint' but current is none",
        f"vhost {vhost}: 3 refused, nothing is declared",
    ]
    assert lives(at, ["celery"], ["celery"]) == []
    if at.address.management_url:
        told = call(
            "waybill.cli", "-A", "tests.support.apps.diffed", "diff", "--management", at.address.management_url
        ).out
        assert [line for line in told.splitlines() if line.startswith("!")] == result.out.splitlines()[:-1]


@pytest.mark.parametrize("is_asked", [True, False], ids=["management", "AMQP"])
def test_what_only_the_management_api_knows(rabbitmq: Address, is_asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vhost's default type stands nowhere in AMQP: without the API the first half is declared, and that is said."""
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    with site(rabbitmq, "quorum") as at:
        with brokers.use_broker(app, at.address.url):
            result = declare("--json", *(["--management", str(at.address.management_url)] if is_asked else []))
        (answer,) = result.objects
        assert result.code == 1
        assert [one["text"] for one in answer["fail"]] == [
            f"invalid arg 'x-max-priority' for queue 'resize' in vhost '{at.address.vhost}' "
            "of queue type rabbit_quorum_queue"
        ]
        created = [] if is_asked else ["celery", "news", "pictures", "celery", "usa"]
        assert [one["name"] for one in answer["created"]] == created


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://", "expected one that speaks AMQP, got memory"),
        ("amqp://guest:s3cret@127.0.0.1:1//", "no broker at amqp://guest:**@127.0.0.1:1//"),
    ],
)
def test_no_broker_to_declare_on(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    with brokers.use_broker(app, url):
        result = declare()
    assert (result.code, result.out) == (2, "")
    assert said in result.complaint
    assert "s3cret" not in result.err
    assert "BROKER" not in result.err  # a variable that this command doesn't read


def test_the_application_is_not_changed(at: Site) -> None:
    """Asking what it declares makes no queue in it."""
    one: Celery = application(Queue("usa", NEWS, "u"), url=at.address.url)
    before = dict(one.amqp.queues)
    declared_by(one)
    assert dict(one.amqp.queues) == before
