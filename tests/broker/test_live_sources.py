"""A broker, or a file of definitions, in place of an application: route, explain and diff by what exists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Exchange, Queue

from tests.support.apps.diffed import app
from tests.support.diff_support import Site, site
from tests.support.programs import Result, call
from waybill.testing import brokers
from waybill.testing.brokers import Address

NEWS = Exchange("news", "topic")
AS_DECLARED = (
    Queue("celery", Exchange("celery"), "celery"),
    Queue("usa", NEWS, "usa.#"),
    Queue("resize", Exchange("pictures"), "resize", queue_arguments={"x-max-priority": 10}),
)


@pytest.fixture
def at(waybill_broker: Address) -> Iterator[Site]:
    """A vhost with what the application declares, a stale binding, and a policy with a dead-letter exchange."""
    with site(waybill_broker) as made, brokers.use_broker(app, made.address.url):
        for queue in (*AS_DECLARED, Queue("dead", Exchange("dead", "fanout"), "any"), Queue("usa", NEWS, "texas.#")):
            assert made.declare(queue) is None
        policy = {"pattern": "^usa$", "apply-to": "queues", "definition": {"dead-letter-exchange": "dead"}}
        made.api("PUT", f"policies/{made.address.vhost}/dead", policy)
        yield made


def waybill(at: Site, *arguments: str) -> Result:
    return call("waybill.cli", *arguments, "--management", str(at.address.management_url))


def test_route_by_what_exists(at: Site) -> None:
    vhost = ("--vhost", at.address.vhost)
    shown = waybill(at, "route", *vhost, "--exchange", "news", "--routing-key", "texas.sports", "--json")
    assert (shown.code, shown.err) == (0, "")
    assert json.loads(shown.out)["queues"] == ["usa"]
    missing = waybill(at, "route", *vhost, "--exchange", "nwes", "--routing-key", "x")
    assert missing.code == 2
    assert missing.complaint == f"error: no exchange 'nwes' in vhost '{at.address.vhost}'; did you mean 'news'?"


@pytest.mark.parametrize("options", [(), ("--vhost", "nosuch")])
def test_a_vhost_that_is_not_there(at: Site, options: tuple[str, ...]) -> None:
    options = options or ("--vhost", "")
    shown = waybill(at, "route", *options, "--exchange", "news")
    assert (shown.code, shown.out) == (2, "")


def test_explain_by_what_exists(at: Site) -> None:
    """A stale binding leads on, and the policy says where dead letters go."""
    task = ("-A", "tests.support.apps.diffed", "explain", "celery.backend_cleanup")
    texas = ("--exchange", "news", "--routing-key", "texas.x")
    offline = call("waybill.cli", *task, *texas)
    assert "it reaches no queue" in offline.out
    shown = waybill(at, *task, *texas)
    assert (shown.code, shown.err) == (0, "")
    assert "✓ usa  `texas.#`" in shown.out
    assert "only on the broker: `usa` is bound to `news` with `texas.#`" in shown.out
    assert "it reaches no queue" not in shown.out
    policy = next(one for one in json.loads(waybill(at, *task, *texas, "--json").out)["arrivals"])
    assert policy["queue"] == "usa"


def test_explain_names_what_does_not_exist_yet(at: Site) -> None:
    at.api("DELETE", f"queues/{at.address.vhost}/resize")
    task = ("-A", "tests.support.apps.diffed", "explain", "celery.backend_cleanup", "--queue", "resize")
    assert "not on the broker yet: `resize`" in waybill(at, *task).out


def test_a_file_is_compared_with_the_broker(at: Site, tmp_path: Path) -> None:
    definitions = at.api("GET", f"definitions/{at.address.vhost}")
    path = tmp_path / "definitions.json"
    compared = ("diff", "--vhost", at.address.vhost, "--definitions", str(path))
    path.write_text(json.dumps(definitions))
    same = waybill(at, *compared)
    assert (same.code, same.err) == (0, "")
    definitions["queues"] = [one for one in definitions["queues"] if one["name"] != "dead"]
    definitions["bindings"] = [one for one in definitions["bindings"] if one["destination"] != "dead"]
    definitions["queues"].append({"name": "new", "durable": True, "auto_delete": False, "arguments": {}})
    path.write_text(json.dumps(definitions))
    other = waybill(at, *compared)
    assert other.code == 1
    assert "+ queue new (classic)" in other.out
    assert "- queue dead (classic): no messages, no consumers; bound to dead `any`" in other.out


def test_a_file_takes_the_place_of_an_application(at: Site, tmp_path: Path) -> None:
    shown = waybill(at, "-A", "tests.support.apps.diffed", "diff", "--definitions", str(tmp_path / "nosuch.json"))
    assert shown.code == 2
    assert "--definitions takes the place of an application" in shown.complaint
    missing = waybill(at, "diff", "--definitions", str(tmp_path / "nosuch.json"))
    assert missing.complaint == f"error: {tmp_path}/nosuch.json: No such file or directory"


def test_route_needs_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    shown = call("waybill.cli", "route", "--exchange", "news")
    assert shown.complaint == "error: expected --definitions FILE or --management URL"
