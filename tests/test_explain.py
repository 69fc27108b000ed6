"""explain: what Celery would publish, from whom each option came, and where it ends; held against a live publish."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from tests.explained_app import app
from waybill import provision
from waybill.errors import InputError, UnknownName
from waybill.explain import explain
from waybill.fleet import Fleet, Worker
from waybill.provision import Address
from waybill.topology.celery_app import from_celery

QUORUM_KEY = "0." * 27 + "1.pictures.resize"

# task, options -> exchange, routing key, queues
PUBLISHED: tuple[tuple[str, dict[str, Any], str, str, list[str]], ...] = (
    ("plain", {}, "", "mail", ["mail"]),
    ("resize", {}, "pictures", "pictures.resize", ["resize"]),
    ("resize", {"routing_key": "pictures.other"}, "pictures", "pictures.other", []),
    ("globbed", {}, "pictures", "pictures.x", []),
    ("functional", {}, "", "mail", ["mail"]),
    ("functional", {"queue": "resize"}, "pictures", "pictures.resize", ["resize"]),
    ("decorated", {}, "", "short", ["short"]),
    ("plain", {"queue": "mail", "routing_key": "gpu"}, "", "mail", ["mail"]),
    ("plain", {"exchange": "pictures"}, "", "mail", ["mail"]),
    ("plain", {"exchange": "pictures", "routing_key": "pictures.resize"}, "pictures", "pictures.resize", ["resize"]),
    ("plain", {"exchange": "mail", "routing_key": "short", "priority": 7}, "mail", "short", ["short"]),
    ("plain", {"headers": {"a": 1}, "expires": 30}, "", "mail", ["mail"]),
    ("plain", {"countdown": 1}, "", "mail", ["mail"]),
    ("resize", {"countdown": 1}, "celery_delayed_27", QUORUM_KEY, ["resize"]),
)


@pytest.mark.parametrize(("task", "call", "exchange", "routing_key", "queues"), PUBLISHED)
def test_what_is_published(task: str, call: dict[str, Any], exchange: str, routing_key: str, queues: list[str]) -> None:
    found = explain(app, f"explained.{task}", call)
    assert (found.publication.exchange, found.publication.routing_key) == (exchange, routing_key)
    assert [arrival.queue.name for arrival in found.arrivals] == queues
    json.dumps(found.to_json())


@pytest.fixture(scope="module")
def live(waybill_vhost: Address) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """A broker that has all that the application declares."""
    before = app.conf.broker_url
    provision.point(app, waybill_vhost.url)
    connection = pika.BlockingConnection(pika.URLParameters(waybill_vhost.url))
    channel = connection.channel()
    declared = from_celery(app)
    for exchange in declared.exchanges:
        channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable)
    for queue in declared.queues:
        channel.queue_declare(
            queue.name, False, queue.durable, queue.exclusive, queue.auto_delete, dict(queue.arguments)
        )
    for binding in declared.bindings:
        bind = channel.queue_bind if binding.destination_type == "queue" else channel.exchange_bind
        bind(binding.destination, binding.source, binding.binding_key, dict(binding.arguments))
    yield channel
    connection.close()
    provision.point(app, before)


@pytest.mark.parametrize(("task", "call", "exchange", "routing_key", "queues"), PUBLISHED)
def test_the_broker_agrees(
    live: pika.adapters.blocking_connection.BlockingChannel,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    call: dict[str, Any],
    exchange: str,
    routing_key: str,
    queues: list[str],
) -> None:
    """Celery itself publishes, without us; each queue then holds exactly what was explained."""
    foretold = explain(app, f"explained.{task}", call).publication
    registered = app.tasks[f"explained.{task}"]
    monkeypatch.setattr(registered, "typing", False)
    monkeypatch.setattr(registered, "ignore_result", True)
    task_id = registered.apply_async(**call).id
    # A marker behind it, through the same queue, shows that nothing more is coming.
    for queue in {queue.name for queue in from_celery(app).queues if not queue.name.startswith("celery_delayed")}:
        if queue in queues:
            got = next(live.consume(queue, auto_ack=True, inactivity_timeout=20))
            live.cancel()
            method, properties, _ = got
            assert properties.correlation_id == task_id
            assert method.routing_key == routing_key
            assert method.exchange in (exchange, "celery_delayed_delivery")
            assert (properties.priority or 0) == (foretold.priority or 0)
        else:
            assert live.basic_get(queue, auto_ack=True) == (None, None, None)


# task, call -> option: source
SOURCES: tuple[tuple[str, dict[str, Any], dict[str, str]], ...] = (
    ("plain", {}, {"queue": "the defaults: task_default_queue"}),
    ("plain", {"queue": "short"}, {"queue": "the call"}),
    ("resize", {}, {"queue": "task_routes['explained.resize']"}),
    ("resize", {"queue": "mail"}, {"queue": "the call"}),
    (
        "globbed",
        {},
        {
            "queue": "task_routes, pattern 'explained.glob*'",
            "routing_key": "task_routes, pattern 'explained.glob*'",
            "priority": "the task's decorator",
        },
    ),
    (
        "functional",
        {},
        {"queue": "task_routes, router 2: by_function", "priority": "task_routes, router 2: by_function"},
    ),
    ("decorated", {}, {"queue": "the task's decorator"}),
)


@pytest.mark.parametrize(("task", "call", "sources"), SOURCES)
def test_who_set_what(task: str, call: dict[str, Any], sources: dict[str, str]) -> None:
    assert {option.name: option.source for option in explain(app, f"explained.{task}", call).options} == sources


# task, call -> a remark on it
REMARKS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("plain", {"queue": "mail", "routing_key": "gpu"}, "routing_key='gpu' from the call is ignored"),
    ("plain", {"exchange": "pictures"}, "exchange='pictures' from the call is ignored"),
    ("plain", {"countdown": 5}, "waits in the worker that gets it"),
    ("plain", {"countdown": 5}, "Direct exchanges are not supported with native delayed delivery."),
    ("resize", {"countdown": 5}, "Celery hands the delay to RabbitMQ"),
    ("globbed", {}, "no queue takes it"),
)


@pytest.mark.parametrize(("task", "call", "remark"), REMARKS)
def test_remarks(task: str, call: dict[str, Any], remark: str) -> None:
    assert any(remark in one for one in explain(app, f"explained.{task}", call).remarks)


def test_arrivals_tell_priority_consumers_and_dead_letters() -> None:
    fleet = Fleet((Worker("w", "w@%h", ("mail", "everyone"), ()),))
    (mail,) = explain(app, "explained.plain", {"priority": 9}, fleet).arrivals
    assert (mail.level, mail.consumers) == (5, ("w",))
    assert mail.notes == ("priority 9 counts as 5, the queue's highest",)
    assert [(letter.reason, letter.exchange) for letter in mail.unconsumed] == [("rejected", "pictures")]
    (short,) = explain(app, "explained.decorated", {"priority": 2}, fleet).arrivals
    assert (short.level, short.consumers) == (0, ())
    assert [letter.reason for letter in short.unconsumed] == ["rejected", "expired", "maxlen"]
    everyone = explain(app, "explained.plain", {"exchange": "everyone", "exchange_type": "fanout"}, fleet)
    assert [(arrival.queue.name, arrival.consumers) for arrival in everyone.arrivals] == [("bcast.everyone", ("w",))]


def test_bad_input() -> None:
    with pytest.raises(UnknownName, match=r"no task 'explained.plian' .* did you mean 'explained.plain'\?"):
        explain(app, "explained.plian", {})
    with pytest.raises(UnknownName, match=r"no queue 'mial' .* did you mean 'mail'\?"):
        explain(app, "explained.plain", {"queue": "mial"})
    with pytest.raises(UnknownName, match=r"no exchange 'picture' .* did you mean 'pictures'\?"):
        explain(app, "explained.plain", {"exchange": "picture", "routing_key": "x"})
    with pytest.raises(InputError, match=r"Celery itself cannot publish .* ValueError: countdown must be"):
        explain(app, "explained.resize", {"countdown": 0.5})


def test_nobody_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the broker nor the result backend: any attempt to open a socket fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for task, call, *_ in PUBLISHED:
        explain(app, f"explained.{task}", call)
