"""docs/explanation/choosing.md says what each broker does; here each of them does it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from kombu import Connection

from tests.support.choosing import documented
from tests.support.programs import PATIENCE, call
from tools import elsewhere, probes
from tools.readme import VARYING
from waybill.broker import Broker
from waybill.testing.receipts import listening


@pytest.fixture(params=["RabbitMQ", "embedded", "Redis", "memory://"])
def broker(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """How the table calls a broker, and its URL."""
    if request.param == "RabbitMQ":
        yield request.param, request.getfixturevalue("rabbitmq_url")
    elif request.param == "Redis":
        yield request.param, request.getfixturevalue("redis_url")
    elif request.param == "embedded":
        with Broker() as embedded:
            yield request.param, embedded.url
    else:
        yield request.param, request.param


def test_a_broker_does_what_the_table_says(broker: tuple[str, str]) -> None:
    name, url = broker
    assert elsewhere.outcomes(url) == documented()[name]


def test_a_lesson_on_redis_comes_out_as_the_table_says(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYBILL_RESULT_BACKEND", redis_url)
    found, expected = elsewhere.lessons(redis_url), documented("lessons")["Redis"]
    # The order within one of Redis' steps varies, and with it the digits and the bars.
    assert {lesson: VARYING.sub("#", came) for lesson, came in found.items()} == {
        lesson: VARYING.sub("#", came) for lesson, came in expected.items()
    }


def test_what_is_told_before_the_first_drain_is_heard(redis_url: str) -> None:
    """On Redis a queue of a fanout exchange is a subscription: what was published before it began is lost."""
    app = Celery("listening", broker=redis_url, set_as_current=False)
    heard: list[str] = []
    with app.connection_for_read() as connection, app.connection_for_write() as other:
        dispatcher = app.events.Dispatcher(other)
        with listening(app, connection, "told.#", lambda event, _: heard.append(event["type"])):
            dispatcher.send("told-first")
            connection.drain_events(timeout=PATIENCE)
    assert heard == ["told-first"]


def test_nothing_is_left_on_the_broker(redis_url: str) -> None:
    before = redis.Redis.from_url(redis_url).keys("*probe*")
    probes.attempt(redis_url, probes.prioritized)
    assert redis.Redis.from_url(redis_url).keys("*probe*") == before


# the transport's options -> the lists of a queue with the priorities 0, 4 and 9
LISTS: tuple[tuple[dict[str, object], set[bytes]], ...] = (
    ({}, {b"lists", b"lists\x06\x163", b"lists\x06\x169"}),
    ({"sep": ":"}, {b"lists", b"lists:3", b"lists:9"}),
    ({"sep": ":", "priority_steps": list(range(10))}, {b"lists", b"lists:4", b"lists:9"}),
)


@pytest.mark.parametrize(("options", "expected"), LISTS)
def test_priorities_on_redis_are_lists(redis_url: str, options: dict[str, object], expected: set[bytes]) -> None:
    url = redis_url.removesuffix("0") + "9"
    redis.Redis.from_url(url).flushdb()
    with Connection(url, transport_options=options) as connection:
        queue = connection.SimpleQueue("lists")
        for priority in (9, 0, 4):
            queue.put(priority, priority=priority)
        assert set(redis.Redis.from_url(url).keys("lists*")) == expected
        assert [queue.get(block=False).payload for _ in range(3)] == [0, 4, 9]


def test_another_separator_on_a_database_in_use_breaks_every_publication(redis_url: str) -> None:
    url = redis_url.removesuffix("0") + "9"
    redis.Redis.from_url(url).flushdb()
    with Connection(url) as connection:
        connection.SimpleQueue("lists").put("message")
    with Connection(url, transport_options={"sep": ":"}) as connection, pytest.raises(ValueError, match="to unpack"):
        connection.SimpleQueue("lists").put("message")


def test_without_a_server_it_compares_two_brokers() -> None:
    result = call("tools.elsewhere", "--json")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 0
    assert {row["what"]: row["embedded"] for row in rows} == documented()["embedded"]
    assert {row["what"]: row["memory://"] for row in rows} == documented()["memory://"]


# argument -> the line
REFUSED = (
    ("nowhere", "broker 'nowhere': expected `embedded`, `docker`, or a URL"),
    ("redis://user:secret@127.0.0.1:1/0", "no broker at redis://user:**@127.0.0.1:1/0"),
    ("redis://127.0.0.1:1/news", "expected the number of a database, got 'news'"),
)


@pytest.mark.parametrize(("argument", "expected"), REFUSED)
def test_a_broker_that_is_none_is_one_line(argument: str, expected: str) -> None:
    result = call("tools.elsewhere", argument)
    assert expected in result.complaint
    assert (result.code, result.out) == (2, "")
