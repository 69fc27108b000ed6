"""`waybill diff` on RabbitMQ: the answer as text and as JSON, exit codes, and `--fix bindings`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from amqp import Channel
from celery.signals import after_task_publish, before_task_publish
from kombu import Connection, Exchange, Queue, binding

from tests.support.apps.diffed import NEW, app
from tests.support.diff_support import Site, site
from tests.support.programs import Result, call, module, until
from waybill.rabbitmq.management import Management
from waybill.testing import brokers
from waybill.testing.brokers import Address

NEWS = Exchange("news", "topic")
AS_DECLARED = (
    Queue("celery", Exchange("celery"), "celery"),
    Queue("usa", NEWS, "usa.#"),
    Queue("resize", Exchange("pictures"), "resize", queue_arguments={"x-max-priority": 10}),
)


@pytest.fixture
def at(waybill_broker: Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A vhost, and the application at it."""
    with site(waybill_broker) as made, brokers.use_broker(app, made.address.url):
        monkeypatch.setenv("WAYBILL_MANAGEMENT_URL", str(made.address.management_url))
        yield made


@pytest.fixture
def channel(at: Site) -> Iterator[Channel]:
    with Connection(at.address.url) as connection:
        yield connection.channel()


def diff(*arguments: str) -> Result:
    return call("waybill.cli", "-A", "tests.support.apps.diffed", "diff", *arguments)


def undeclared() -> list[str]:
    """The bindings and queues that `--json` tells as not declared, in short."""
    told = json.loads(diff("--json").out)["undeclared"]
    return sorted(one.get("name") or f"{one['source']} {one['binding_key']} {one['destination']}" for one in told)


def test_an_empty_vhost(at: Site) -> None:
    result = diff()
    assert (result.code, result.err) == (1, "")
    assert result.out.splitlines() == [
        *NEW,
        "+ binding celery `celery` → celery",
        "+ binding news `usa.#` → usa",
        "+ binding pictures `resize` → resize",
        f"vhost {at.address.vhost}: 9 to create, 0 refused, 0 that the application doesn't declare",
    ]


@pytest.mark.usefixtures("at")
def test_no_handler_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []

    def handle(**named: object) -> None:
        called.append(named)

    before = dict(app.conf.changes)
    for signal in (before_task_publish, after_task_publish):
        monkeypatch.setattr(signal, "receivers", [])
        signal.connect(handle)
    assert diff().code == 1
    assert called == []
    assert dict(app.conf.changes) == before


@pytest.mark.usefixtures("at")
def test_which_differences_fail() -> None:
    """On an empty vhost all is to be created, and nothing else."""
    assert diff("--fail-on", "create").code == 1
    assert diff("--fail-on", "refused", "--fail-on", "undeclared").code == 0
    assert "'never' is not one of 'create', 'refused', 'unmade', 'undeclared'" in diff("--fail-on", "never").complaint


def test_no_difference(at: Site) -> None:
    for queue in AS_DECLARED:
        assert at.declare(queue) is None
    result = diff()
    assert (result.code, result.err) == (0, "")
    assert result.out == f"vhost {at.address.vhost}: the declarations and the broker are the same\n"
    assert json.loads(diff("--json").out) == {
        "vhost": at.address.vhost,
        "default_queue_type": "classic",
        "create": [],
        "fail": [],
        "unmade": [],
        "undeclared": [],
    }


def test_a_refusal_as_json(at: Site) -> None:
    for queue in (*AS_DECLARED[:2], Queue("resize", Exchange("pictures"), "resize")):
        assert at.declare(queue) is None
    result = diff("--json")
    assert (result.code, result.err) == (1, "")
    (answer,) = result.objects
    (refusal,) = answer["fail"]
    vhost = at.address.vhost
    delete = f"{str(at.address.management_url).replace('guest:guest@', '')}/api/queues/{vhost}/resize"
    delete = f"curl -u USER -X DELETE '{delete}?if-empty=true&if-unused=true'"
    assert refusal == {
        "kind": "queue",
        "name": "resize",
        "type": "classic",
        "durable": True,
        "auto_delete": False,
        "arguments": {"x-max-priority": 10},
        "reply_code": 406,
        "reply_name": "PRECONDITION_FAILED",
        "text": f"inequivalent arg 'x-max-priority' for queue 'resize' in vhost '{vhost}': "
        "received the value '10' of type 'signedint' but current is none",
        "argument": "x-max-priority",
        "declared": 10,
        "live": None,
        "remedies": [
            ["match it", 'Queue("resize", ...)'],
            [
                "or delete it while it is empty: the next worker creates it anew",
                f"rabbitmqctl list_queues -p {vhost} name messages",
                delete,
            ],
            [
                "or declare another, drain the old one and delete it",
                'Queue("resize.v2", ...), and beside it Queue("resize", no_declare=True) until it is empty',
                "celery -A tests.support.apps.diffed worker -Q resize",
                delete,
            ],
        ],
    }
    assert (answer["create"], answer["undeclared"]) == ([], [])


def test_what_is_not_declared(at: Site, channel: Any) -> None:
    for queue in (*AS_DECLARED, Queue("old", NEWS, "old.#", queue_arguments={"x-max-priority": 3})):
        assert at.declare(queue) is None
    channel.queue_bind("usa", "news", "texas.#")
    channel.queue_bind("usa", "amq.topic", "u")
    channel.exchange_declare("gone", "fanout", durable=True, auto_delete=False)
    channel.basic_consume("old")
    until(lambda: len(at.api("GET", f"consumers/{at.address.vhost}")) == 1)
    result = diff()
    assert result.code == 1
    assert result.out.splitlines() == [
        "- binding amq.topic `u` → usa",
        "- binding news `texas.#` → usa",
        "- queue old (classic) [x-max-priority=3]: no messages, 1 consumer; bound to news `old.#`",
        "- exchange gone (fanout): no bindings",
        f"vhost {at.address.vhost}: 0 to create, 0 refused, 4 that the application doesn't declare",
    ]


def test_what_another_application_declares(at: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a second -A its queue is no orphan, and one that it would create is told."""
    (tmp_path / "feeding.py").write_text(
        "from celery import Celery\nfrom kombu import Exchange, Queue\napp = Celery('feeding')\n"
        "app.conf.task_queues = [Queue('feeds', Exchange('feeds', 'fanout'), 'any'), Queue('celery')]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CELERY_BROKER_URL", at.address.url)
    for queue in (*AS_DECLARED, Queue("feeds", Exchange("feeds", "fanout"), "any")):
        assert at.declare(queue) is None
    assert "- queue feeds (classic)" in diff().out
    both = call("waybill.cli", "-A", "tests.support.apps.diffed", "-A", "feeding", "diff")
    assert (both.code, both.err) == (0, "")
    assert both.out == f"vhost {at.address.vhost}: the declarations and the broker are the same\n"


# Keys and arguments that a path could stumble over.
STALE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {}),
    ("texas.#", {}),
    ("a/b", {}),
    ("a%2Fb", {}),
    ("~", {}),
    ("...", {}),
    ("ü ☃ ?x=1", {}),
    ("two\nlines", {}),
    ("k" * 255, {}),
    ("usa.#", {"x": 1}),
    ("usa.#", {"x": "1", "y": [True, 1.5]}),
)


def stale(at: Site, channel: Any) -> None:
    """What is declared, the bindings above, and what must stay."""
    for queue in (*AS_DECLARED, Queue("old", NEWS, "old.#")):
        assert at.declare(queue) is None
    for key, arguments in STALE:
        channel.queue_bind("usa", "news", key, arguments=arguments)


def rest(at: Site) -> Any:
    """All that lives but the bindings into `usa`, and the declared one of these."""
    export = at.api("GET", f"definitions/{at.address.vhost}")
    kept = [one for one in export["bindings"] if one["destination"] != "usa" or one["arguments"] == {}]
    shown = [one for one in kept if one["destination"] != "usa" or one["routing_key"] == "usa.#"]
    return export["exchanges"], export["queues"], shown


def test_fix_unbinds_what_it_names_and_nothing_else(at: Site, channel: Any) -> None:
    stale(at, channel)
    before = rest(at)
    result = diff("--fix", "bindings", "--yes")
    assert result.code == 1  # the queue `old` is still there
    assert sum(line.startswith("- binding ") for line in result.out.splitlines()) == len(STALE)
    said = result.err.splitlines()
    assert (len(said), {line.partition(":")[0] for line in said}) == (len(STALE), {"unbound"})
    assert undeclared() == ["old"]
    assert rest(at) == before


def test_fix_asks(at: Site, channel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stale(at, channel)
    for answer, code in (("n\n", 1), ("\n", 1), ("", 2)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        result = diff("--fix", "bindings", "--json")
        assert result.code == code
        assert f"unbind {len(STALE)} stale bindings? [y/N] " in result.err
        assert len(undeclared()) == len(STALE) + 1
    assert result.out == ""
    assert "--fix bindings asks before it unbinds and nobody answers: expected --yes" in result.err
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    (answered,) = diff("--fix", "bindings", "--json").objects
    assert len(answered["unbound"]) == len(STALE)
    assert undeclared() == ["old"]


def test_fix_may_leave_no_difference(at: Site, channel: Any) -> None:
    for queue in AS_DECLARED:
        assert at.declare(queue) is None
    for key in ("one", "two"):
        channel.queue_bind("usa", "news", key)
    assert diff("--fix", "bindings", "--yes").code == 0
    assert diff().code == 0


def test_fix_with_nothing_to_unbind_asks_nothing(at: Site) -> None:
    for queue in AS_DECLARED:
        assert at.declare(queue) is None
    result = diff("--fix", "bindings")
    assert (result.code, result.err) == (0, "")


def test_fix_leaves_what_would_take_an_exchange_along(at: Site, channel: Any) -> None:
    """An auto-delete exchange goes with its last binding, and that isn't what was asked for."""
    for queue in AS_DECLARED:
        assert at.declare(queue) is None
    channel.exchange_declare("brief", "direct", durable=True, auto_delete=True)
    channel.queue_bind("usa", "brief", "one")
    channel.queue_bind("usa", "brief", "two")
    result = diff("--fix", "bindings", "--yes")
    assert result.code == 1
    assert result.err.splitlines() == [
        f"left: binding brief `{key}` → usa: brief is auto-delete, and would go with its last binding"
        for key in ("one", "two")
    ]
    assert undeclared() == ["brief", "brief one usa", "brief two usa"]
    channel.queue_declare("other", durable=True, auto_delete=False)
    channel.queue_bind("other", "brief", "stays")
    assert diff("--fix", "bindings", "--yes").err.count("unbound: ") == 2
    assert undeclared() == ["brief", "other"]


@pytest.mark.parametrize("key", [".", ".."])
def test_fix_leaves_what_has_no_address(at: Site, channel: Any, key: str) -> None:
    """RabbitMQ's web server reads such a path as a folder."""
    for queue in AS_DECLARED:
        assert at.declare(queue) is None
    channel.queue_bind("usa", "news", key)
    result = diff("--fix", "bindings", "--yes")
    assert result.code == 1
    assert result.complaint == (
        f"left: binding news `{key}` → usa: the management API has no address for such a name or key"
    )


def test_a_declared_binding_that_json_cannot_tell_is_not_stale(at: Site) -> None:
    """Timestamps and bytes come back as numbers and text: the binding must not be taken for another."""
    exact = {"since": datetime(2026, 1, 1, tzinfo=UTC), "x-match": "any"}
    odd = Queue("odd", [binding(Exchange("sorted", "headers"), arguments=exact)])
    assert at.declare(odd) is None
    plan = at.plan(odd)
    assert plan.is_empty, plan


@pytest.mark.usefixtures("at")
def test_a_vhost_that_is_not_there() -> None:
    result = diff("--vhost", "no/such vhost")
    assert (result.code, result.out) == (2, "")
    assert "with 404" in result.complaint


REFUSED = Queue("usa", NEWS, "usa.#", max_priority=5)


def test_the_remedies_name_the_application_that_celery_was_given(at: Site) -> None:
    assert at.declare(REFUSED) is None
    variables = {"WAYBILL_DIFF_BROKER": at.address.url, "WAYBILL_MANAGEMENT_URL": str(at.address.management_url)}
    result = module("celery", "-A", "tests.support.apps.diffed", "waybill", "diff", environment=variables)
    assert result.code == 1
    assert "        celery -A tests.support.apps.diffed worker -Q usa" in result.out.splitlines()


def test_declare_tells_the_remedies_too(at: Site) -> None:
    assert at.declare(REFUSED) is None
    told = diff().out.splitlines()
    first = next(number for number, line in enumerate(told) if line.startswith("!"))
    refusal = [line for line in told[first:] if line.startswith(("!", "    "))]
    result = call("waybill.cli", "-A", "tests.support.apps.diffed", "declare")
    assert result.code == 1
    assert result.out.splitlines() == [*refusal, f"vhost {at.address.vhost}: 1 refused, nothing is declared"]
    assert len(refusal) > 5


@pytest.fixture
def user(at: Site, request: pytest.FixtureRequest) -> Iterator[str]:
    """The management API's address for a user of that tag, with all permissions in this vhost and none elsewhere."""
    name = f"{request.param}-{at.address.vhost}"
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    at.api("PUT", f"users/{name}", {"password": "x", "tags": request.param})
    try:
        at.api("PUT", f"permissions/{at.address.vhost}/{name}", rights)
        yield str(at.address.management_url).replace("//guest:guest@", f"//{name}:x@")
    finally:
        at.api("DELETE", f"users/{name}")


@pytest.mark.parametrize("user", ["management", "monitoring"], indirect=True)
def test_a_user_who_is_no_administrator(channel: Channel, user: str) -> None:
    for queue in AS_DECLARED:
        queue(channel).declare()
    Queue("usa", NEWS, "texas.#")(channel).declare()
    told = diff("--json")
    assert told.code == 1
    for asked in (("--json", "--management", user), ("--json", "--management", user, "--fix", "bindings", "--yes")):
        result = diff(*asked)
        answer = json.loads(result.out)
        unbound = answer.pop("unbound", None)
        assert answer == json.loads(told.out)
    assert [one["binding_key"] for one in unbound] == ["texas.#"]
    assert diff("--management", user).code == 0
    assert call("waybill.cli", "-A", "tests.support.apps.diffed", "declare", "--management", user).code == 0


@pytest.mark.parametrize("user", ["none"], indirect=True)
def test_a_user_without_a_tag(user: str) -> None:
    result = diff("--management", user)
    assert (result.code, result.out) == (2, "")
    assert "answers GET /api/overview with 401 Unauthorized" in result.complaint


@pytest.mark.parametrize(("user", "seen"), [("management", False), ("monitoring", True)], indirect=["user"])
def test_who_sees_consumers(at: Site, channel: Channel, user: str, seen: bool) -> None:
    """docs/reference/diff.md relies on this: the tag `management` shows its own connections only."""
    channel.queue_declare("watched")
    channel.basic_consume("watched")
    until(lambda: at.api("GET", f"consumers/{at.address.vhost}"))
    with Management(user, at.address.vhost) as asked:
        assert bool(asked.consumers()) == seen
