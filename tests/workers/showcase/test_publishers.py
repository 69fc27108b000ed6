"""Each publisher as a program, against a broker and workers that are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from exchanges import topic
from tests.support.lessons import PROGRAMS
from tests.support.programs import Result, call, module
from tests.support.showcase import Lessons
from waybill.celery_app.fleet.workers import Fleet
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch

FIELDS = ["exchange", "routing_key", "headers", "priority", "task", "task_id", "received", "returned", "predicted"]


@pytest.fixture(scope="module")
def url(waybill_vhost: Address, waybill_watch: Watch) -> str:
    """A broker on which the whole fleet is ready."""
    assert waybill_watch.consumers_by_worker
    return waybill_vhost.url


def publish(url: str, name: str, *arguments: str) -> Result:
    return call(f"publishers.{name}", *arguments, "--broker", url, "--json")


def received(line: Mapping[str, Any]) -> dict[str, str]:
    return {one["worker"].partition("@")[0]: one["queue"] for one in line["received"]}


@pytest.mark.parametrize(("name", "arguments", "expected"), PROGRAMS)
def test_who_received_what(
    url: str, lessons: Lessons, name: str, arguments: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    if arguments:
        result = publish(url, name, *arguments)
        lines = result.objects
    else:
        result, lines = lessons[name].result, lessons[name].objects
    assert all(list(line) == FIELDS for line in lines)
    # Two workers compete for `images`: either may have it.
    found = [{name.replace("images2", "images1"): queue for name, queue in received(line).items()} for line in lines]
    assert found == expected
    assert [line["returned"] for line in lines] == [not one for one in expected]
    assert result.code == (1 if {} in expected else 0)
    assert len(result.err.splitlines()) == expected.count({})


def test_priorities_are_printed_in_the_order_of_service(url: str) -> None:
    result = publish(url, "priority", "1", "9", "5")
    assert [(line["priority"], received(line)) for line in result.objects] == [
        (9, {"batch": "tasks"}),
        (5, {"batch": "tasks"}),
        (1, {"batch": "tasks"}),
    ]


def test_what_json_prints_can_be_recorded_too(url: str, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    printed = publish(url, "direct", "video", "--record", str(record)).out
    assert record.read_text(encoding="utf-8") == printed
    result = call("publishers.direct", "video", "--record", str(tmp_path / "no" / "record.json"), "--broker", url)
    assert "'--record'" in result.complaint
    assert (result.code, result.out) == (2, "")


def test_announcements_reach_every_worker(url: str, waybill_fleet: Fleet) -> None:
    (line,) = publish(url, "fanout", "announcements").objects
    assert set(received(line)) == {worker.name for worker in waybill_fleet}


def test_a_customer_stays_in_its_shard(lessons: Lessons) -> None:
    lines = lessons["shards"].lines
    assert [received(line) for line in lines[:4]] == [received(line) for line in lines[4:]]


def test_the_tour_uses_the_workers_that_are_there(url: str) -> None:
    result = call("publishers.__main__", "topic", "signals", "--json", "--broker", url)
    assert result.code == 0
    keys = [line["routing_key"] for line in result.objects if line.get("exchange") == topic.news.name]
    assert keys == ["usa.news", "usa.weather", "norway.news", "norway.weather", "usa", "usa.sports.nba", "news"]


def test_a_returned_message_names_exchange_and_key(url: str) -> None:
    result = module("publishers.topic", "norway.weather", environment={"WAYBILL_BROKER_URL": url})
    assert result.code == 1
    assert "'norway.weather'" in result.complaint
    assert "'news'" in result.complaint
    assert "returned" in result.out


# publisher, arguments -> what its one line says
BAD_INPUT: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("default", ("--queue", "vidoes"), "no queue 'vidoes' in the application; did you mean 'videos'?"),
    ("raw", ("--exchange", "medai"), "no exchange 'medai' in vhost"),
    ("headers", ("format",), "header 'format': expected name=value"),
    ("headers", ("=pdf",), "header '=pdf': expected name=value"),
    ("priority", ("11",), "11 is not in the range 0<=x<=10"),
    ("priority", ("-1",), "No such option"),
    ("priority", ("high",), "'high' is not a valid integer range"),
    ("fanout", ("nosuch",), "'nosuch' is not one of 'signups', 'announcements'"),
    ("direct", ("--nosuch",), "No such option"),
)


@pytest.mark.parametrize(("name", "arguments", "expected"), BAD_INPUT)
def test_bad_input_is_one_line(url: str, name: str, arguments: tuple[str, ...], expected: str) -> None:
    result = publish(url, name, *arguments)
    assert expected in result.complaint
    assert (result.code, result.out) == (2, "")


# A broker that isn't one -> what the one line says
NO_BROKER = (
    ("amqp://guest:secret@127.0.0.1:1//", "no broker at amqp://guest:**@127.0.0.1:1"),
    ("amqp://guest:secret@nohost.invalid//", "no broker at amqp://guest:**@nohost.invalid:5672"),
    ("amqp://guest:secret@127.0.0.1:port//", "broker 'amqp://guest:**@127.0.0.1:port//': no port, expected a number"),
    ("amqp://guest:secret@", "no host"),
    ("http://guest:secret@127.0.0.1", "expected `embedded`, `docker`, or a URL"),
    ("dokcer", "broker 'dokcer': expected `embedded`"),
)


@pytest.mark.parametrize(("broker", "expected"), NO_BROKER)
def test_no_broker_is_one_line_without_the_password(broker: str, expected: str) -> None:
    result = call("publishers.direct", "video", "--broker", broker)
    assert expected in result.complaint
    assert result.code == 2
    assert "secret" not in result.complaint


def test_no_broker_as_a_program() -> None:
    result = module("publishers", environment={"BROKER": "amqp://guest:secret@127.0.0.1:1//"})
    assert result.code == 2
    assert "amqp://guest:**@127.0.0.1:1" in result.err
    assert "Traceback" not in result.err


def test_a_wrong_password_is_one_line(url: str) -> None:
    result = call("publishers.direct", "video", "--broker", url.replace(":guest@", ":geheim@"))
    assert "refuses us" in result.complaint
    assert "ACCESS_REFUSED" in result.complaint
    assert "start one" not in result.complaint
    assert "geheim" not in result.complaint
    assert result.code == 2
