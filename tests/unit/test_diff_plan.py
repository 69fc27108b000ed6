"""The difference as a pure function: what counts as left over, what is Celery's, and how a plan is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from celery.utils.nodenames import worker_direct
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

from tests.support.celery_lines import needs_native_delay
from tests.support.check_example import existing
from tests.support.diff_support import PLACE, application, names
from waybill.celery_app.fleet.workers import Fleet, Unread, Worker
from waybill.diff import Plan, declared_by, difference, text
from waybill.diff.remedies import exchange_code, policy_that_sets, queue_code
from waybill.rabbitmq.management import LiveBinding, LiveConsumer
from waybill.rabbitmq.state import LiveFacts
from waybill.topology import Binding, DestinationType
from waybill.topology import Exchange as EngineExchange
from waybill.topology import Queue as EngineQueue
from waybill.topology.policies import Policies

NEWS = Exchange("news", "topic")
USA = Queue("usa", NEWS, "usa.#")
RESIZE = Queue("resize", NEWS, "r", queue_arguments={"x-queue-type": "quorum"})
UUID = "8f2b1f0e-2d5c-4b6e-9a57-0d9c3a1b7e64"


def plan(declared: Queue | tuple[Queue, ...], live: LiveFacts, **settings: Any) -> Plan:
    queues = declared if isinstance(declared, tuple) else (declared,)
    return difference(declared_by(application(*queues, **settings)), live, PLACE)


def stale(found: Plan) -> list[str]:
    return [f"{one.source} {one.binding_key} {one.destination}" for one in (live.binding for live in found.stale)]


def bound(live: LiveFacts, *more: tuple[str, str, DestinationType, str]) -> LiveFacts:
    """The same with bindings more: source, key, kind and name of the destination."""
    made = tuple(LiveBinding(Binding(source, name, key, {}, kind), key or "~") for source, key, kind, name in more)
    return replace(live, bindings=(*live.bindings, *made))


# Bindings that live beside those of USA -> those that are stale.
LEFT: tuple[tuple[tuple[tuple[str, str, DestinationType, str], ...], list[str]], ...] = (
    ((), []),
    ((("news", "texas.#", "queue", "usa"),), ["news texas.# usa"]),
    ((("amq.topic", "x", "queue", "usa"),), ["amq.topic x usa"]),
    ((("elsewhere", "x", "exchange", "news"),), ["elsewhere x news"]),
    # Another application's native delay binds what it finds: for a key that is declared that is Celery's, else not.
    ((("news", "#.usa.#", "queue", "usa"), ("celery_delayed_delivery", "#.usa.#", "exchange", "news")), []),
    ((("news", "#.texas.#", "queue", "usa"),), ["news #.texas.# usa"]),
    ((("celery_delayed_delivery", "#.texas", "exchange", "news"),), ["celery_delayed_delivery #.texas news"]),
    # What leads to queues that aren't declared is told with them.
    ((("news", "x", "queue", "other"),), []),
)


def test_the_kinds_of_difference() -> None:
    live = existing([Queue("usa", NEWS, "usa.#", max_priority=5), Queue("old", NEWS, "old")], {})
    assert plan(USA, live).kinds == {"refused", "undeclared"}
    assert plan((USA, RESIZE), existing([USA], {})).kinds == {"create"}
    assert plan(USA, existing([USA], {})).kinds == frozenset()


def test_the_queue_of_each_worker_is_celerys() -> None:
    own = worker_direct("usa@host")
    live = existing([USA, own], {})
    found = plan(USA, live, worker_direct=True)
    assert found.is_empty
    assert [one.queue.name for one in plan(USA, live).queues] == ["usa@host.dq2"]
    nodes = Fleet((Worker("usa", "usa@host", ("usa", own.name), ()), Worker("b", "b@%h", (), ())))
    declared = declared_by(application(USA, worker_direct=True), nodes)
    made = difference(declared, existing([USA], {}), PLACE).create
    assert [getattr(item, "name", "a binding") for item in made] == ["C.dq2", own.name, "a binding"]


def test_what_no_worker_consumes_is_created_by_none() -> None:
    app = application(USA, Queue("dead", Exchange("dead", "fanout"), "any"))
    worker = Worker("usa", "usa@%h", ("usa",), ())
    found = difference(declared_by(app, Fleet((worker,))), existing([], {}), PLACE)
    assert [getattr(item, "name", "a binding") for item in found.create] == ["news", "usa", "a binding"]
    assert text.text(found).splitlines()[3:] == [
        "? exchange dead (fanout): no worker of the fleet consumes it, so none creates it; `waybill declare` does",
        "? queue dead (classic): no worker of the fleet consumes it, so none creates it; `waybill declare` does",
        "vhost /: 3 to create, 0 refused, 2 that nobody creates, 0 that the application doesn't declare",
    ]
    assert [one["name"] for one in found.to_json()["unmade"]] == ["dead", "dead"]
    unread = Fleet((worker,), (Unread("other", "its script isn't here"),))
    assert difference(declared_by(app, unread), existing([], {}), PLACE).unmade == ()


@pytest.mark.parametrize(("more", "expected"), LEFT)
def test_stale_bindings(more: tuple[tuple[str, str, DestinationType, str], ...], expected: list[str]) -> None:
    assert stale(plan(USA, bound(existing([USA], {}), *more))) == expected


@needs_native_delay
def test_a_delayed_binding_of_a_key_that_is_gone_is_stale() -> None:
    """Where the application delays natively, `#.texas.#` is its own, and keeps the queue fed like `texas.#`."""
    both = Queue("usa", [binding(NEWS, "usa.#"), binding(NEWS, "texas.#")])
    declared = declared_by(application(both, RESIZE))
    live = replace(
        existing([both, RESIZE], {}),
        exchanges={exchange.name: exchange for exchange in declared.exchanges},
        queues={queue.name: queue for queue in declared.queues},
        bindings=tuple(map(LiveBinding, declared.bindings)),
    )
    assert plan((both, RESIZE), live).is_empty
    assert sorted(stale(plan((USA, RESIZE), live))) == [
        "celery_delayed_delivery #.texas.# news",
        "news #.texas.# usa",
        "news texas.# usa",
    ]


# Queues by name, and whether nobody but the application would miss them.
LIVING_QUEUES = {
    "old": True,
    f"celeryev.{UUID}": False,
    "celery@host.celery.pidbox": False,
    f"{UUID}.reply.celery.pidbox": False,
    UUID: False,
    "celery_delayed_5": False,
    "amq.gen-JzTY20BRgKO": False,
    f"bcast.{UUID}": True,
    "pidbox": True,
    "celeryevents": True,
    UUID[:-1]: True,
}


@pytest.mark.parametrize("name", LIVING_QUEUES)
def test_orphan_queues(name: str) -> None:
    live = existing([USA], {name: 12})
    live = replace(live, queues={**live.queues, name: EngineQueue(name)})
    live = replace(live, consumers=(LiveConsumer(name, "tag", 1, True, "here"),) * 2)
    found = plan(USA, live).queues
    assert [(one.queue.name, one.messages, one.consumers) for one in found] == (
        [(name, 12, 2)] if LIVING_QUEUES[name] else []
    )


def test_names_follow_the_settings() -> None:
    live = existing([USA], {})
    theirs = ("celeryev.1", "x.celery.pidbox", "events.1", "x.shop.pidbox")
    live = replace(live, queues={**live.queues, **{name: EngineQueue(name) for name in theirs}})
    found = plan(USA, live, event_queue_prefix="events", control_exchange="shop")
    assert names([one.queue for one in found.queues]) == ["celeryev.1", "x.celery.pidbox"]


def test_a_reply_queue_that_is_bound_is_no_reply_queue() -> None:
    live = existing([USA, Queue(UUID, NEWS, "u")], {})
    assert names([one.queue for one in plan(USA, live).queues]) == [UUID]


def test_the_queue_of_a_broadcast_is_the_workers() -> None:
    """Of a declared `Broadcast` no queue is missed, and none is an orphan; of another it is one."""
    queues = (USA, Broadcast("everyone"))
    live = existing([USA, Queue(f"bcast.{UUID}", Exchange("everyone", "fanout"), "")], {})
    assert plan(queues, live).is_empty
    other = existing([USA, Queue(f"bcast.{UUID}", Exchange("nobody", "fanout"), "")], {})
    found = plan(queues, other)
    assert names([one.queue for one in found.queues]) == [f"bcast.{UUID}"]
    assert names(found.create) == ["everyone"]


def test_orphan_exchanges() -> None:
    """Not those that a declaration names, nor Celery's, nor RabbitMQ's."""
    one = Queue("usa", Exchange("news", "topic", arguments={"alternate-exchange": "rest"}), "u", queue_arguments={
        "x-dead-letter-exchange": "dead"
    })  # fmt: skip
    live = existing([one], {})
    others = ("rest", "dead", "celeryev", "celery.pidbox", "reply.celery.pidbox", "amq.rabbitmq.log", "old")
    live = replace(live, exchanges={**live.exchanges, **{name: EngineExchange(name) for name in others}})
    assert [(one.exchange.name, one.bindings) for one in plan(one, live).exchanges] == [("old", 0)]


def test_the_whole_text() -> None:
    live = existing([Queue("resize", Exchange("old", "direct"), "r", max_priority=5), USA], {"resize": 3})
    live = replace(live, policies=Policies(({"name": "p", "pattern": "^res", "definition": {"max-length": 5}},)))
    wanted = (USA, Queue("resize", NEWS, "r", max_length=9), Queue("new\x1b[31m", NEWS, "n"))
    assert text.text(plan(wanted, live)).splitlines() == [
        "+ queue new\\x1b[31m (classic)",
        "+ binding news `n` → new\\x1b[31m",
        "! queue resize (classic) [x-max-length=9]: 406 PRECONDITION_FAILED - inequivalent arg 'x-max-length' for "
        "queue 'resize' in vhost '/': received the value '9' of type 'signedint' but current is none",
        "    match it; the policy `p` gives it max-length=5 anyway:",
        '        Queue("resize", ..., queue_arguments={"x-max-priority": 5})',
        "    or declare another, drain the old one and delete it:",
        '        Queue("resize.v2", ...), and beside it Queue("resize", no_declare=True) until it is empty',
        "        celery -A proj worker -Q resize",
        "        rabbitmqctl list_queues -p / name messages",
        "        curl -u USER -X DELETE 'http://127.0.0.1:15672/api/queues/%2F/resize?if-empty=true&if-unused=true'",
        "- binding old `r` → resize",
        "- exchange old (direct): 1 binding",
        "vhost /: 2 to create, 1 refused, 2 that the application doesn't declare",
    ]


CODE: tuple[tuple[EngineQueue | EngineExchange, str, str], ...] = (
    (EngineQueue("q"), "classic", 'Queue("q", ...)'),
    (EngineQueue("q", arguments={"x-queue-type": "classic"}), "classic", 'Queue("q", ...)'),
    (
        EngineQueue("q", arguments={"x-queue-type": "classic"}),
        "quorum",
        'Queue("q", ..., queue_arguments={"x-queue-type": "classic"})',
    ),
    (EngineQueue("q", arguments={"x-queue-type": "quorum"}), "quorum", 'Queue("q", ...)'),
    (EngineQueue("q", False, False, True), "quorum", 'Queue("q", ..., durable=False, auto_delete=True)'),
    (EngineQueue('a"b\n'), "classic", "Queue('a\"b\\n', ...)"),
    (EngineExchange("x", "topic"), "", 'Exchange("x", "topic")'),
    (
        EngineExchange("x's", "fanout", False, arguments={"alternate-exchange": "a"}),
        "",
        'Exchange("x\'s", "fanout", durable=False, arguments={"alternate-exchange": "a"})',
    ),
)


@pytest.mark.parametrize(("item", "default", "code"), CODE)
def test_code(item: EngineQueue | EngineExchange, default: str, code: str) -> None:
    assert (queue_code(item, default) if isinstance(item, EngineQueue) else exchange_code(item)) == code


# Policies -> the one that sets x-message-ttl for a classic queue `usa`; the highest priority applies, alone.
POLICIES: tuple[tuple[list[dict[str, Any]], tuple[str, str] | None], ...] = (
    ([], None),
    ([{"name": "a", "pattern": ".*", "definition": {"message-ttl": 5}}], ("a", "message-ttl=5")),
    ([{"name": "a", "pattern": "^sa", "definition": {"message-ttl": 5}}], None),
    ([{"name": "a", "pattern": "s", "definition": {"message-ttl": 5}, "apply-to": "quorum_queues"}], None),
    (
        [{"name": "a", "pattern": "s", "definition": {"message-ttl": 5}, "apply-to": "classic_queues"}],
        ("a", "message-ttl=5"),
    ),
    (
        [
            {"name": "a", "pattern": "s", "definition": {"message-ttl": 5}, "priority": 1},
            {"name": "b", "pattern": "u", "definition": {"max-length": 5}, "priority": 2},
        ],
        None,
    ),
    ([{"name": "a", "pattern": "(", "definition": {"message-ttl": 5}}], None),
    ([{"name": "a", "pattern": 5, "definition": "x", "priority": "high"}], None),
)


@pytest.mark.parametrize(("policies", "expected"), POLICIES)
def test_the_policy_that_applies(policies: list[dict[str, Any]], expected: tuple[str, str] | None) -> None:
    live = replace(existing([USA], {}), policies=Policies(tuple(policies)))
    assert policy_that_sets("x-message-ttl", EngineQueue("usa"), live) == expected
