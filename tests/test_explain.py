"""explain: what Celery would publish, from whom each option came, and where it ends; held against a live publish."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from celery import Celery, Task
from kombu import Exchange, Queue

from tests.celery_lines import needs_native_delay
from tests.explained_app import app
from waybill import provision, publication
from waybill.errors import InputError, UnknownName
from waybill.explain import explain
from waybill.fleet import Fleet, Worker
from waybill.installed import HAS_NATIVE_DELAY
from waybill.provision import Address
from waybill.topology.celery_app import from_celery

QUORUM_KEY = "0." * 27 + "1.pictures.resize"
# A countdown on a quorum queue: kept by RabbitMQ, or by the worker where Celery can't delay natively.
DELAYED = ("resize", {"countdown": 1}, "celery_delayed_27", QUORUM_KEY, ["resize"])
WAITING = ("resize", {"countdown": 1}, "pictures", "pictures.resize", ["resize"])

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
    DELAYED if HAS_NATIVE_DELAY else WAITING,
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
    before, options = app.conf.broker_url, app.conf.broker_transport_options
    # Confirmed: when apply_async returns, every queue that the message reaches without a delay holds it.
    app.conf.broker_transport_options = {"confirm_publish": True}
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
    app.conf.broker_transport_options = options
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
    # In the call: before Celery 5.6 the task's own `ignore_result` doesn't keep a producer from the result backend.
    task_id = registered.apply_async(**call, ignore_result=True).id
    for name in queues:
        # A delayed message comes when its delay has passed, every other is there.
        got = next(live.consume(name, auto_ack=True, inactivity_timeout=20))
        live.cancel()
        method, properties, _ = got
        assert properties.correlation_id == task_id
        assert method.routing_key == routing_key
        assert method.exchange in (exchange, "celery_delayed_delivery")
        assert (properties.priority or 0) == (foretold.priority or 0)
    # One exchange hands a message to all its queues at once: what these don't hold now isn't coming.
    for queue in from_celery(app).queues:
        if not queue.name.startswith("celery_delayed"):
            assert live.basic_get(queue.name, auto_ack=True) == (None, None, None)


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
    ("plain", {"exchange": "pictures"}, "sends to the queue `mail`; give `routing_key` or `exchange_type`"),
    ("plain", {"countdown": 5}, "waits in the worker that gets it"),
    pytest.param("plain", {"countdown": 5}, "Direct exchanges are not supported with", marks=needs_native_delay),
    (
        "resize",
        {"countdown": 5},
        "the delay to RabbitMQ" if HAS_NATIVE_DELAY else "from 5.5 on the delay is RabbitMQ's",
    ),
    ("globbed", {}, "no queue takes it"),
)


@pytest.mark.parametrize(("task", "call", "remark"), REMARKS)
def test_remarks(task: str, call: dict[str, Any], remark: str) -> None:
    assert any(remark in one for one in explain(app, f"explained.{task}", call).remarks)


def test_a_direct_exchange_with_an_empty_key_is_never_published_to() -> None:
    """Its type doesn't help there, so it isn't advised."""
    call = {"exchange": "mail"}
    (remark,) = explain(app, "explained.plain", call).remarks
    assert remark.endswith("sends to the queue `mail`; give `routing_key`")
    assert explain(app, "explained.plain", {**call, "exchange_type": "direct"}).publication.exchange == ""


def other_app(broker: str = "amqp://nobody@broker.invalid//", **settings: Any) -> Celery:
    """An application with Celery's defaults, and a task that fails the test when it's run."""
    made = Celery("other", broker=broker, backend="redis://backend.invalid/0", set_as_current=False)
    made.conf.update(task_queues=[Queue("videos", Exchange("videos"), "videos")], **settings)

    @made.task(name="other.plain", shared=False)
    def plain() -> None:
        raise AssertionError("the task was run")

    return made


def test_an_eager_task_is_not_run() -> None:
    eager = other_app(task_always_eager=True)
    assert explain(eager, "other.plain", {"queue": "videos"}).publication.routing_key == "videos"
    assert eager.conf.task_always_eager is True


def test_a_live_publication_is_not_eager_and_awaits_no_result(waybill_vhost: Address) -> None:
    eager = other_app(waybill_vhost.url, task_always_eager=True)
    with provision.connect(eager) as connection:
        sent = publication.publish(eager, connection, "other.plain", queue="videos")
        assert (sent.routing_key, sent.is_returned) == ("videos", False)


class Stubborn(Task):
    """Hands on no producer, as many base classes do."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        options.pop("producer", None)
        return self.app.send_task(self.name, args, kwargs, **options)


class Quiet(Task):
    """Publishes nothing."""

    def apply_async(self, *_: Any, **__: Any) -> Any:
        return None


@pytest.mark.usefixtures("no_network")
def test_a_task_with_an_apply_async_of_its_own() -> None:
    own = other_app()

    def work() -> None:
        raise AssertionError("the task was run")

    own.task(work, name="other.stubborn", base=Stubborn, shared=False)
    own.task(work, name="other.quiet", base=Quiet, shared=False)
    for call in ({}, {"countdown": 1}, {"connection": own.connection_for_write()}):
        assert explain(own, "other.stubborn", {"queue": "videos", **call}).publication.routing_key == "videos"
    with pytest.raises(InputError, match="this task's own apply_async published nothing"):
        explain(own, "other.quiet", {})
    assert own.amqp._producer_pool is None
    assert "Producer" not in vars(own.amqp)


def test_a_queue_that_celery_would_create() -> None:
    default = other_app()
    for _ in range(2):  # the first leaves nothing behind for the second
        found = explain(default, "other.plain", {"queue": "vidoes"})
        assert [arrival.queue.name for arrival in found.arrivals] == ["vidoes"]
        assert found.remarks == (
            "the application doesn't declare `vidoes`: Celery creates it with this publication; did you mean `videos`?",
        )
        assert set(default.amqp.queues) == {"videos"}


def test_a_router_may_give_a_queue_itself() -> None:
    films = Queue("films", Exchange("films", "topic"), "film.*")
    routed = other_app(task_routes=[lambda *_, **__: {"queue": films, "routing_key": "film.new"}])
    found = explain(routed, "other.plain", {})
    assert (found.publication.exchange, found.publication.routing_key) == ("films", "film.new")
    assert [arrival.queue.name for arrival in found.arrivals] == ["films"]
    assert {option.name: option.value for option in found.options} == {"queue": "films", "routing_key": "film.new"}
    json.dumps(found.to_json())


def test_the_pattern_is_shown_as_it_was_written() -> None:
    for routes in ({"o*r.pl?[a-z]*": "videos"}, [{"o*r.pl?[a-z]*": "videos"}], [[("o*r.pl?[a-z]*", "videos")]]):
        (option,) = explain(other_app(task_routes=routes), "other.plain", {}).options
        assert option.source == "task_routes, pattern 'o*r.pl?[a-z]*'"


def test_another_broker_is_told_of() -> None:
    remarks = explain(other_app("memory://"), "other.plain", {"queue": "videos"}).remarks
    assert remarks == ("the application's broker is memory: what is told here holds for RabbitMQ only",)


def test_whatever_the_application_raises_is_bad_input() -> None:
    def by_argument(_name: str, args: Any, *_: Any, **__: Any) -> str:
        return str(args[0])

    with pytest.raises(InputError, match=r"Celery itself cannot publish 'other.plain' .* IndexError"):
        explain(other_app(task_routes=[by_argument]), "other.plain", {})
    with pytest.raises(InputError, match="OverflowError"):
        explain(other_app(), "other.plain", {"countdown": 1e18})


# call -> what is too long
TOO_LONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"exchange": "pictures", "routing_key": "k" * 300}, "routing key of 300 bytes: AMQP carries 255 at most"),
    ({"exchange": "pictures", "routing_key": "é" * 128}, "routing key of 256 bytes"),
    ({"exchange": "x" * 256, "routing_key": "k"}, "exchange of 256 bytes"),
    ({"headers": {"h" * 256: 1}}, "header name of 256 bytes"),
)


@pytest.mark.parametrize(("call", "expected"), TOO_LONG)
def test_a_name_that_no_frame_carries(call: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        explain(app, "explained.plain", call)


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


@needs_native_delay
def test_a_countdown_that_celery_itself_refuses() -> None:
    with pytest.raises(InputError, match=r"Celery itself cannot publish .* ValueError: countdown must be"):
        explain(app, "explained.resize", {"countdown": 0.5})


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to open a socket fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_nobody_is_connected_to() -> None:
    """Neither the broker nor the result backend."""
    for task, call, *_ in PUBLISHED:
        explain(app, f"explained.{task}", call)
