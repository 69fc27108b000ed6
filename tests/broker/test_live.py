"""The live map's collector on both brokers: each message on the edges that it went, and nothing left behind."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pika
import pytest

from tests.support.check_live import own_vhost
from tests.support.programs import PATIENCE, until
from waybill.errors import InputError
from waybill.live.collector import Collector
from waybill.live.serving import Watchers
from waybill.live.source import Source
from waybill.rabbitmq.management import Management
from waybill.testing.brokers import Address

EXCHANGES = {"news": "topic", "all": "fanout", "one": "direct", "rest": "fanout", "dead": "fanout"}
QUEUES = ("usa", "world", "copy", "left", "failed")
BINDINGS = (
    ("news", "usa", "usa.#"),
    ("news", "world", "*.news"),
    ("all", "usa", ""),
    ("all", "world", ""),
    ("one", "copy", "k"),
    ("rest", "left", ""),
    ("dead", "failed", ""),
)
KEYS = ("usa.x", "usa.news", "eu.news", "eu", "k", "")
COUNT, SEED = 300, 16


@pytest.fixture
def at(waybill_broker: Address) -> Iterator[Address]:
    with own_vhost(waybill_broker) as address:
        yield address


def declare(channel: Any) -> None:
    for name, kind in EXCHANGES.items():
        channel.exchange_declare(name, kind, arguments={"alternate-exchange": "rest"} if name == "news" else None)
    for name in QUEUES:
        channel.queue_declare(name, arguments={"x-dead-letter-exchange": "dead"} if name == "copy" else None)
    for source, queue, key in BINDINGS:
        channel.queue_bind(queue, source, key)


@contextmanager
def watched(at: Address) -> Iterator[Watchers]:
    with Source(at.url, str(at.management_url), at.vhost, may_trace=True) as source:
        watchers = Watchers(Collector(source.facts()))
        source.start(watchers)
        yield watchers


def is_traced(at: Address) -> bool:
    with Management(str(at.management_url), at.vhost) as management:
        return bool(management.vhost()["tracing"])


def test_each_message_on_the_edges_that_it_went(at: Address) -> None:
    """Predicted, seen and taken: what consumers got is what the map shows, queue by queue."""
    chance = random.Random(SEED)
    received: set[tuple[str, str]] = set()
    with closing(pika.BlockingConnection(pika.URLParameters(at.url))) as connection, watched(at) as watchers:
        channel = connection.channel()
        declare(channel)
        for queue in QUEUES:

            def on_message(chosen: Any, method: Any, properties: Any, _body: bytes, queue: str = queue) -> None:
                received.add((properties.message_id, queue))
                if queue == "copy":
                    chosen.basic_reject(method.delivery_tag, requeue=False)  # to the dead letters
                else:
                    chosen.basic_ack(method.delivery_tag)

            channel.basic_consume(queue, on_message)
        for number in range(COUNT):
            exchange = chance.choice((*list(EXCHANGES)[:4], ""))
            key = chance.choice((*KEYS, *QUEUES)) if exchange == "" else chance.choice(KEYS)
            channel.basic_publish(exchange, key, b"m", pika.BasicProperties(message_id=str(number)))

        def shown() -> set[tuple[str, str]]:
            connection.process_data_events(0.05)
            with watchers.lock:
                kept = watchers.collector.flow.after(0, COUNT)
            return {(one.event.properties["message_id"], queue) for one in kept for queue in one.delivered}

        with watchers.lock:
            everything = COUNT
        until(lambda: watchers.collector.flow.last == everything and shown() == received and not watchers.is_doubtful)
        with watchers.lock:
            rows = [watchers.collector.row(one) for one in watchers.collector.flow.after(0, COUNT)]
            edges = {edge.id for edge in watchers.collector.shape.edges}
            counts = watchers.collector.counts(0.0)["edges"]
        assert watchers.collector.mismatches == 0
        for row in rows:
            assert row["predicted"] == row["queues"] or set(row["predicted"]) == set(row["queues"]), row
            assert {edge for path in row["edges"] for edge in path} <= edges, row
            assert row["state"] != "mismatch"
        assert {row["state"] for row in rows} == {"delivered", "dead_lettered", "unroutable"}
        for way, number in counts.items():
            assert number["count"] == sum(way in {edge for path in row["edges"] for edge in path} for row in rows), way
    assert not is_traced(at)


def test_the_firehose_is_not_switched_on_unasked(at: Address) -> None:
    source = Source(at.url, str(at.management_url), at.vhost, may_trace=False)
    with pytest.raises(InputError, match="--trace switches it on"), source:
        pass
    with Management(str(at.management_url), at.vhost) as management:
        management.set_tracing(is_on=True)
    with Source(at.url, str(at.management_url), at.vhost, may_trace=False):
        pass
    assert is_traced(at)  # as it was


def test_the_command(at: Address) -> None:
    """Lines of JSON for a broker; Ctrl-C ends it, and the firehose is off again."""
    options = ("--management", str(at.management_url), "--broker", at.url, "--trace", "--json")
    command = [sys.executable, "-m", "waybill", "live", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert "guest:guest" not in process.stderr.readline()
            assert "watching" in process.stderr.readline()
            with closing(pika.BlockingConnection(pika.URLParameters(at.url))) as connection:
                connection.channel().basic_publish("", "none", b"m")
                row = json.loads(process.stdout.readline())
            assert (row["key"], row["queues"]) == ("none", [])
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert not is_traced(at)


@pytest.fixture(scope="module")
def page() -> Iterator[tuple[str, str]]:
    """The page's address and the embedded broker's."""
    command = [sys.executable, "-m", "waybill", "live", "--port", "0", "--bodies"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            broker, url = (process.stderr.readline().split()[1] for _ in range(2))
            yield url, broker.replace("amqp://", "amqp://guest:guest@") + "%2F"
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def get(url: str, **options: Any) -> httpx.Response:
    return httpx.get(url, verify=False, timeout=PATIENCE, **options)


def test_the_api(page: tuple[str, str]) -> None:
    url, amqp = page
    with closing(pika.BlockingConnection(pika.URLParameters(amqp))) as connection:
        channel = connection.channel()
        declare(channel)
        task = pika.BasicProperties(headers={"task": "shop.report", "id": "1", "root_id": "1"})
        channel.basic_publish("news", "usa.x", b'{"password": "x"}', task)
        found = get(f"{url}api/wait?id=1&state=routed").json()
        assert (found["task"], found["queues"]) == ("shop.report", ["usa"])
        until(lambda: get(f"{url}api/messages").json()["messages"][0]["predicted"] == ["usa"])
        details = get(f"{url}api/messages/{found['number']}").json()
        assert details["body"] == '{"password": "…"}'
        assert [one["task"] for one in get(f"{url}api/tasks/1").json()["tasks"]] == ["shop.report"]
        tried = get(f"{url}api/try?exchange=news&key=eu").json()
        assert (tried["queues"], tried["error"]) == (["left"], None)
        sent = {"exchange": "", "key": "none", "headers": {}, "payload": "x"}
        posted = httpx.post(f"{url}api/send", json=sent, verify=False).json()
        assert posted == {"outcome": "returned", "text": "no queue took it"}
        until(lambda: [one["key"] for one in get(f"{url}api/unroutable").json()["messages"]] == ["none"])
        with httpx.stream("GET", f"{url}events", headers={"Last-Event-ID": "0"}, verify=False) as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("id:")) == "id: 1"
            assert next(line for line in lines if line.startswith("event:")) == "event: message"
            assert json.loads(next(line for line in lines if line.startswith("data:"))[5:])["task"] == "shop.report"
            assert "event: counts" in lines
    assert "shop.report  news usa.x → usa" in get(f"{url}text").text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("api/messages/999", 404),
        ("api/messages?after=x", 400),
        ("api/try?exchange=news&headers=[", 400),
        ("api/wait?timeout=x", 400),
        ("api/wait?task=none&timeout=0.05", 408),
        ("page/..%2Fserving.py", 404),
        ("page/none.js", 404),
    ],
)
def test_what_cannot_be_answered(page: tuple[str, str], path: str, status: int) -> None:
    answer = get(page[0] + path)
    assert answer.status_code == status
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_another_sites_page_is_refused(page: tuple[str, str], headers: dict[str, str]) -> None:
    assert get(f"{page[0]}api/map", headers=headers).status_code == 403


def test_what_a_page_may_load(page: tuple[str, str]) -> None:
    policy = get(f"{page[0]}api/map").headers["content-security-policy"]
    assert policy == "default-src 'self'; frame-ancestors 'none'"
