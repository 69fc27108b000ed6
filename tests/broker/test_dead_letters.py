"""Dead letters: looked at without losing one, and put back where they died. Nobody consumes here but the test."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest
from amqp import Channel, Message
from celery import Celery
from kombu import Connection, Queue

import exchanges
from exchanges.reliability import aside, parked, work
from publishers.support.dead_letters import taken
from tests.support.programs import ROOT, Result, call
from tools.readme import BLOCK, VARYING
from waybill.testing import brokers
from waybill.testing.brokers import Address

TASK = "worker.reliability.back_off"
IDS = ("one", "two", "three")


@pytest.fixture(scope="module")
def connection(waybill_app: Celery) -> Iterator[Connection]:
    with brokers.connect(waybill_app) as connection:
        exchanges.declare(connection)
        yield connection


@pytest.fixture
def channel(connection: Connection) -> Iterator[Channel]:
    """A channel, and queues that are empty."""
    with connection.channel() as channel:
        for queue in (work, parked):
            channel.queue_purge(queue.name)
        yield channel


@pytest.fixture
def dead(channel: Channel) -> tuple[str, ...]:
    """The ids of three dead letters, the oldest first."""
    for id_ in IDS:
        publish(channel, work.name, id_)
        die(channel, work.name)
    return IDS


def publish(channel: Channel, queue: str, id_: str, body: bytes = b"[[true], {}, {}]", **properties: Any) -> None:
    kept = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2, **properties}
    headers = {"id": id_, "task": TASK, "retries": 3}
    channel.basic_publish(Message(body, application_headers=headers, **kept), routing_key=queue)


def die(channel: Channel, queue: str, into: str = parked.name) -> None:
    """Reject what waits in the queue; it is parked when this is over."""
    before = count(channel, into)
    channel.basic_reject(channel.basic_get(queue).delivery_tag, requeue=False)
    deadline = monotonic() + 10
    while count(channel, into) == before:
        assert monotonic() < deadline


def count(channel: Channel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)


def tool(address: Address, *arguments: str) -> Result:
    return call("publishers.deadletter", *arguments, "--broker", address.url)


def listed(address: Address) -> list[str]:
    return [line["id"] for line in tool(address, "list", "--json").objects]


def test_looking_loses_nothing(channel: Channel, dead: tuple[str, ...], waybill_vhost: Address) -> None:
    for _ in range(3):
        assert listed(waybill_vhost) == list(dead)
    assert tool(waybill_vhost, "inspect", "two").code == 0
    assert count(channel, parked.name) == len(dead)
    assert [channel.basic_get(parked.name).headers["id"] for _ in dead] == list(dead)


def test_who_is_broken_off_while_looking_loses_nothing(
    connection: Connection, dead: tuple[str, ...], waybill_vhost: Address
) -> None:
    with suppress(KeyboardInterrupt), taken(connection) as messages:
        next(messages)
        raise KeyboardInterrupt
    assert listed(waybill_vhost) == list(dead)


def test_a_line_says_where_and_why_it_died(dead: tuple[str, ...], waybill_vhost: Address) -> None:
    first, *_ = tool(waybill_vhost, "list", "--json").objects
    died = first.pop("died")
    assert died.endswith("+00:00")
    assert first == {"id": dead[0], "task": TASK, "queue": "fragile", "reason": "rejected", "requeued": 0}
    shown = tool(waybill_vhost, "list").out.splitlines()
    when = died.replace("T", " ").removesuffix("+00:00")
    assert shown[0] == f"  one  {TASK} → rejected in fragile, {when} UTC"


def test_the_page_shows_it(channel: Channel, waybill_vhost: Address) -> None:
    text = (ROOT / "docs" / "lessons" / "reliability.md").read_text(encoding="utf-8")
    examples = [(found["command"].split()[3:], found["shown"]) for found in BLOCK.finditer(text)]
    (id_,) = {word for arguments, _ in examples for word in arguments if len(word) == 36}
    publish(channel, work.name, id_)
    die(channel, work.name)
    for arguments, shown in examples[1:]:
        printed = tool(waybill_vhost, *arguments).out
        assert VARYING.sub("#", printed) == VARYING.sub("#", shown)


def test_nothing_is_dead(channel: Channel, waybill_vhost: Address) -> None:
    assert count(channel, parked.name) == 0
    result = tool(waybill_vhost, "list")
    assert (result.code, result.out, result.err) == (0, "  no dead letters in 'parked'\n", "")
    assert tool(waybill_vhost, "list", "--json").objects == []
    assert tool(waybill_vhost, "requeue", "--all").out == ""


def test_all_that_is_in_one(dead: tuple[str, ...], waybill_vhost: Address) -> None:
    assert dead
    whole = json.loads(tool(waybill_vhost, "inspect", "two").out)
    assert whole["body"] == [[True], {}, {}]
    assert (whole["headers"]["task"], whole["headers"]["retries"]) == (TASK, 3)
    (death,) = whole["headers"]["x-death"]
    assert (death["queue"], death["reason"], death["routing-keys"]) == ("fragile", "rejected", ["fragile"])
    assert whole["properties"]["content_type"] == "application/json"


# content type, body -> what is shown of it
BODIES = (
    (
        "application/x-python-serialize",
        pickle.dumps(print),
        f"{len(pickle.dumps(print))} bytes of application/x-python",
    ),
    ("application/json", b"{", "1 bytes that are no JSON"),
    ("application/json", b"[" * 100_000, "100000 bytes that are no JSON"),
    ("application/octet-stream", b"\xff\x00", "2 bytes of application/octet-stream"),
)


@pytest.mark.parametrize(("content_type", "body", "expected"), BODIES)
def test_a_body_that_is_no_json_is_not_opened_and_goes_back_as_it_was(
    channel: Channel, waybill_vhost: Address, content_type: str, body: bytes, expected: str
) -> None:
    publish(channel, work.name, "odd", body, content_type=content_type, content_encoding="binary")
    die(channel, work.name)
    (whole,) = tool(waybill_vhost, "inspect", "odd", "--json").objects
    assert whole["body"].startswith(expected)
    assert tool(waybill_vhost, "requeue", "odd").code == 0
    assert channel.basic_get(work.name).body == body


def test_one_goes_back_and_the_others_stay(channel: Channel, dead: tuple[str, ...], waybill_vhost: Address) -> None:
    assert dead
    result = tool(waybill_vhost, "requeue", "two")
    assert (result.code, result.out, result.err) == (0, f"  two  {TASK} → back in fragile\n", "")
    assert listed(waybill_vhost) == ["one", "three"]
    assert count(channel, work.name) == 1
    back = channel.basic_get(work.name)
    assert back.headers == {"id": "two", "task": TASK, "retries": 3, "x-requeued": 1}
    assert back.body == "[[true], {}, {}]"


def test_all_go_back_in_their_order(channel: Channel, dead: tuple[str, ...], waybill_vhost: Address) -> None:
    result = tool(waybill_vhost, "requeue", "--all", "--json")
    assert [line["id"] for line in result.objects] == list(dead)
    assert count(channel, parked.name) == 0
    assert [channel.basic_get(work.name).headers["id"] for _ in dead] == list(dead)


def test_properties_go_back_too(channel: Channel, waybill_vhost: Address) -> None:
    kept: dict[str, Any] = {
        "priority": 4,
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "m",
        "type": "t",
        "app_id": "a",
    }
    publish(channel, work.name, "kept", **kept)
    die(channel, work.name)
    assert tool(waybill_vhost, "requeue", "kept").code == 0
    found = channel.basic_get(work.name).properties
    assert {name: found[name] for name in kept} == kept
    assert found["delivery_mode"] == 2


def test_what_dies_again_says_how_often_it_was_put_back(channel: Channel, waybill_vhost: Address) -> None:
    publish(channel, work.name, "again")
    for before in range(3):
        die(channel, work.name)
        (line,) = tool(waybill_vhost, "list", "--json").objects
        assert line["requeued"] == before
        shown = tool(waybill_vhost, "list").out
        assert (f"put back {before} time(s) before" in shown) is (before > 0)
        (whole,) = tool(waybill_vhost, "inspect", "again", "--json").objects
        assert [death["count"] for death in whole["headers"]["x-death"]] == [1]
        assert tool(waybill_vhost, "requeue", "again").code == 0


def test_whose_queue_is_gone_stays(channel: Channel, waybill_vhost: Address) -> None:
    to_parked = {"x-dead-letter-exchange": aside.name, "x-dead-letter-routing-key": parked.routing_key}
    Queue("passing", queue_arguments=to_parked)(channel).queue_declare()
    publish(channel, "passing", "lost")
    die(channel, "passing")
    channel.queue_delete("passing")
    result = tool(waybill_vhost, "requeue", "--all")
    assert (result.code, result.out) == (1, "")
    assert result.complaint == "error: still in 'parked': lost: the queue 'passing' doesn't take it"
    assert listed(waybill_vhost) == ["lost"]


def test_what_never_died_stays(channel: Channel, waybill_vhost: Address) -> None:
    publish(channel, parked.name, "born-here")
    assert "published to parked itself" in tool(waybill_vhost, "list").out
    result = tool(waybill_vhost, "requeue", "born-here")
    assert (result.code, result.out) == (1, "")
    assert "it doesn't say in which queue it died" in result.complaint
    assert listed(waybill_vhost) == ["born-here"]


# Headers that look like the broker's, or like ours, and aren't
ODD: tuple[dict[str, Any], ...] = (
    {"x-death": "yesterday"},
    {"x-death": []},
    {"x-death": ["yesterday"]},
    {"x-death": [{"queue": 7, "time": "noon"}]},
    {"x-requeued": "often"},
    {"id": 1, "task": None},
)


@pytest.mark.parametrize("headers", ODD)
def test_headers_of_strangers_are_no_trouble(channel: Channel, waybill_vhost: Address, headers: dict[str, Any]) -> None:
    channel.basic_publish(Message("", application_headers=headers), routing_key=parked.name)
    (line,) = tool(waybill_vhost, "list", "--json").objects
    assert (line["died"], line["requeued"]) == (None, 0)
    result = tool(waybill_vhost, "requeue", "--all")
    assert "still in 'parked'" in result.complaint
    assert result.code == 1
    assert count(channel, parked.name) == 1


# arguments -> what the one line says
BAD_INPUT = (
    (("inspect", "tow"), "no dead letter 'tow' in the queue 'parked'; did you mean 'two'?"),
    (("requeue", "one", "tow"), "no dead letter 'tow' in the queue 'parked'; did you mean 'two'?"),
    (("requeue",), "requeue: expected the ID of a dead letter, or several, or --all"),
    (("requeue", "one", "--all"), "requeue: expected the ID of a dead letter, or several, or --all"),
    (("inspect",), "Missing argument 'ID'"),
    (("list", "one"), "unexpected extra argument (one)"),
    (("lsit",), "'lsit' is not one of 'in-stock', 'sold-out'"),
)


@pytest.mark.parametrize(("arguments", "expected"), BAD_INPUT)
def test_bad_input_is_one_line_and_moves_nothing(
    channel: Channel, dead: tuple[str, ...], waybill_vhost: Address, arguments: tuple[str, ...], expected: str
) -> None:
    result = tool(waybill_vhost, *arguments)
    assert expected in result.complaint
    assert (result.code, result.out) == (2, "")
    assert listed(waybill_vhost) == list(dead)
    assert count(channel, work.name) == 0


def test_a_broker_without_the_queue(connection: Connection, channel: Channel, waybill_vhost: Address) -> None:
    channel.queue_delete(parked.name)
    result = tool(waybill_vhost, "list")
    exchanges.declare(connection)
    assert f"no queue 'parked' in vhost {waybill_vhost.vhost!r}" in result.complaint
    assert result.code == 2


@pytest.mark.parametrize("broker", ["embedded", "docker"])
def test_a_broker_that_would_be_new_has_no_dead_letters(broker: str) -> None:
    result = call("publishers.deadletter", "list", "--broker", broker)
    assert "expected the URL of one that runs" in result.complaint
    assert result.code == 2


@pytest.mark.parametrize("order", [("list", "--json"), ("--json", "list")])
def test_the_command_may_stand_behind_options(channel: Channel, waybill_vhost: Address, order: tuple[str, ...]) -> None:
    publish(channel, parked.name, "1")
    result = call("publishers.deadletter", "--broker", waybill_vhost.url, *order)
    assert [line["id"] for line in result.objects] == ["1"]
