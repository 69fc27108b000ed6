"""explain: what Celery would publish, from whom each option came, and where it ends; held against a live publish."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from kombu import Exchange, Queue

from tests.support.apps.explained import PUBLISHED, app
from tests.support.celery_lines import needs_native_delay
from tests.support.programs import call as run
from waybill.celery_app.fleet.workers import Fleet, Worker
from waybill.celery_app.installed import HAS_NATIVE_DELAY
from waybill.errors import InputError, UnknownName
from waybill.explain import explain_task


@pytest.mark.parametrize(("task", "call", "exchange", "routing_key", "queues"), PUBLISHED)
def test_what_is_published(task: str, call: dict[str, Any], exchange: str, routing_key: str, queues: list[str]) -> None:
    found = explain_task(app, f"explained.{task}", call)
    assert (found.publication.exchange, found.publication.routing_key) == (exchange, routing_key)
    assert [arrival.queue.name for arrival in found.arrivals] == queues
    json.dumps(found.to_json())


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
    assert {option.name: option.source for option in explain_task(app, f"explained.{task}", call).options} == sources


# task, call -> a remark on it
REMARKS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("plain", {"queue": "mail", "routing_key": "gpu"}, "routing_key='gpu' from the call is ignored"),
    ("plain", {"exchange": "pictures"}, "exchange='pictures' from the call is ignored"),
    ("plain", {"exchange": "pictures"}, "sends to the queue `mail`; give `routing_key` or `exchange_type`"),
    ("plain", {"countdown": 5}, "waits in the worker that gets it"),
    *([("plain", {"countdown": 5}, "Direct exchanges are not supported with")] if HAS_NATIVE_DELAY else []),
    (
        "resize",
        {"countdown": 5},
        "the delay to RabbitMQ" if HAS_NATIVE_DELAY else "from 5.5 on the delay is RabbitMQ's",
    ),
    ("globbed", {}, "it reaches no queue"),
)


@pytest.mark.parametrize(("task", "call", "remark"), REMARKS)
def test_remarks(task: str, call: dict[str, Any], remark: str) -> None:
    assert any(remark in one for one in explain_task(app, f"explained.{task}", call).remarks)


def test_a_direct_exchange_with_an_empty_key_is_never_published_to() -> None:
    """Its type doesn't help there, so it isn't advised."""
    call = {"exchange": "mail"}
    (remark,) = explain_task(app, "explained.plain", call).remarks
    assert remark.endswith("sends to the queue `mail`; give `routing_key`")
    assert explain_task(app, "explained.plain", {**call, "exchange_type": "direct"}).publication.exchange == ""


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
    assert explain_task(eager, "other.plain", {"queue": "videos"}).publication.routing_key == "videos"
    assert eager.conf.task_always_eager is True


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
        assert explain_task(own, "other.stubborn", {"queue": "videos", **call}).publication.routing_key == "videos"
    with pytest.raises(InputError, match="this task's own apply_async published nothing"):
        explain_task(own, "other.quiet", {})
    assert own.amqp._producer_pool is None
    assert "Producer" not in vars(own.amqp)


def test_a_queue_that_celery_would_create() -> None:
    default = other_app()
    for _ in range(2):  # the first leaves nothing behind for the second
        found = explain_task(default, "other.plain", {"queue": "vidoes"})
        assert [arrival.queue.name for arrival in found.arrivals] == ["vidoes"]
        assert found.remarks == (
            "the application doesn't declare `vidoes`: Celery creates it with this publication; did you mean `videos`?",
        )
        assert set(default.amqp.queues) == {"videos"}


def test_a_router_may_give_a_queue_itself() -> None:
    films = Queue("films", Exchange("films", "topic"), "film.*")
    routed = other_app(task_routes=[lambda *_, **__: {"queue": films, "routing_key": "film.new"}])
    found = explain_task(routed, "other.plain", {})
    assert (found.publication.exchange, found.publication.routing_key) == ("films", "film.new")
    assert [arrival.queue.name for arrival in found.arrivals] == ["films"]
    assert {option.name: option.value for option in found.options} == {"queue": "films", "routing_key": "film.new"}
    json.dumps(found.to_json())


def test_the_pattern_is_shown_as_it_was_written() -> None:
    for routes in ({"o*r.pl?[a-z]*": "videos"}, [{"o*r.pl?[a-z]*": "videos"}], [[("o*r.pl?[a-z]*", "videos")]]):
        (option,) = explain_task(other_app(task_routes=routes), "other.plain", {}).options
        assert option.source == "task_routes, pattern 'o*r.pl?[a-z]*'"


def test_another_broker_is_told_of() -> None:
    remarks = explain_task(other_app("memory://"), "other.plain", {"queue": "videos"}).remarks
    assert remarks == ("the application's broker is memory: what is told here holds for RabbitMQ only",)


def test_whatever_the_application_raises_is_bad_input() -> None:
    def by_argument(_name: str, args: Any, *_: Any, **__: Any) -> str:
        return str(args[0])

    with pytest.raises(InputError, match=r"fails on 'other.plain' with args=\(\), kwargs={}: IndexError"):
        explain_task(other_app(task_routes=[by_argument]), "other.plain", {})
    with pytest.raises(InputError, match="OverflowError"):
        explain_task(other_app(), "other.plain", {"countdown": 1e18})


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
        explain_task(app, "explained.plain", call)


def test_arrivals_tell_priority_consumers_and_dead_letters() -> None:
    fleet = Fleet((Worker("w", "w@%h", ("mail", "everyone"), ()),))
    (mail,) = explain_task(app, "explained.plain", {"priority": 9}, fleet).arrivals
    assert (mail.level, mail.consumers) == (5, ("w",))
    assert mail.notes == (
        "priority 9 counts as 5, the queue's highest",
        "acknowledged before it runs (acks_late is off): neither `Reject` nor a failure makes it a dead letter",
    )
    assert mail.unconsumed == ()
    (short,) = explain_task(app, "explained.decorated", {"priority": 2}, fleet).arrivals
    assert (short.level, short.consumers) == (0, ())
    assert [letter.reason for letter in short.unconsumed] == ["expired", "maxlen"]
    everyone = explain_task(app, "explained.plain", {"exchange": "everyone", "exchange_type": "fanout"}, fleet)
    assert [(arrival.queue.name, arrival.consumers) for arrival in everyone.arrivals] == [("bcast.everyone", ("w",))]


@pytest.mark.parametrize("is_late", [True, False])
def test_what_is_acknowledged_late_can_be_rejected(is_late: bool) -> None:
    late = Celery("late", broker="amqp://nobody@127.0.0.1:1//", set_as_current=False)
    late.conf.task_queues = [
        Queue("celery", queue_arguments={"x-dead-letter-exchange": "dead"}),
        Queue("dead", Exchange("dead", "fanout"), "any"),
    ]

    @late.task(name=f"late.index{is_late}", acks_late=is_late)
    def index() -> None: ...

    (arrival,) = explain_task(late, f"late.index{is_late}").arrivals
    assert [(letter.reason, letter.queues) for letter in arrival.unconsumed] == [("rejected", ("dead",))] * is_late
    (foreign,) = explain_task(late, "other.index", is_foreign=True).arrivals
    assert [letter.reason for letter in foreign.unconsumed] == ["rejected"]


def test_bad_input() -> None:
    with pytest.raises(UnknownName, match=r"no task 'explained.plian' .* did you mean 'explained.plain'\?"):
        explain_task(app, "explained.plian", {})
    with pytest.raises(UnknownName, match=r"no queue 'mial' .* did you mean 'mail'\?"):
        explain_task(app, "explained.plain", {"queue": "mial"})
    with pytest.raises(UnknownName, match=r"no exchange 'picture' .* did you mean 'pictures'\?"):
        explain_task(app, "explained.plain", {"exchange": "picture", "routing_key": "x"})


@needs_native_delay
def test_a_countdown_that_celery_itself_refuses() -> None:
    with pytest.raises(InputError, match=r"Celery itself cannot publish .* ValueError: countdown must be"):
        explain_task(app, "explained.resize", {"countdown": 0.5})


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
        explain_task(app, f"explained.{task}", call)


def test_any_other_option_of_the_call() -> None:
    """With the type Celery keeps the exchange although there is no routing key."""
    call_ = ("-A", "tests.support.apps.explained", "explain", "explained.plain", "--exchange", "pictures")
    assert "exchange='pictures' from the call is ignored" in run("waybill.cli", *call_).out
    typed = run("waybill.cli", *call_, "--option", "exchange_type=topic")
    assert "published to pictures" in typed.out


TWICE = """
from celery import Celery
from kombu import Exchange, Queue
app = Celery("{name}", broker="amqp://nobody@127.0.0.1:1//", set_as_current=False)
app.conf.task_default_queue = "work"
app.conf.task_queues = [
    Queue("work", queue_arguments={{"x-dead-letter-exchange": "retry"}}),
    Queue("retry", Exchange("retry", "fanout"), "r", queue_arguments={{"x-dead-letter-exchange": "parked"}}),
    Queue("parked", Exchange("parked", "fanout"), "p", queue_arguments={{"x-dead-letter-exchange": "retry"}}),
]
@app.task(name="twice.go", acks_late=True, shared=False)
def go(): ...
"""

# the fleet -> the lines below the queue, without their indents
SECOND_DEATHS = (
    ("", ["when rejected: retry", "when rejected: parked", "when rejected: retry"]),
    (
        "w: celery -A {name} worker -n w@%h -Q work,parked\nr: celery -A {name} worker -n r@%h -Q retry",
        [
            *("consumed by w", "when rejected: retry", "retry is consumed by r", "when rejected: parked"),
            *("parked is consumed by w", "when rejected: retry", "retry is consumed by r"),
        ],
    ),
    (
        "w: celery -A {name} worker -n w@%h -Q work\nr: celery -A {name} worker -n r@%h -Q retry",
        [
            *("consumed by w", "when rejected: retry", "retry is consumed by r"),
            "when rejected: the dead-letter exchange 'parked' does not exist: the message is lost",
        ],
    ),
)


@pytest.mark.parametrize(("fleet", "lines"), SECOND_DEATHS)
def test_what_becomes_of_a_dead_letter(
    fleet: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"twice_{len(fleet)}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / f"{name}.py").write_text(TWICE.format(name=name))
    (tmp_path / "Procfile").write_text(fleet.format(name=name))
    shown = run("waybill.cli", "-A", name, "explain", "twice.go", *(("--fleet", "Procfile") if fleet else ()))
    told = [line.lstrip("│├└─ ") for line in shown.out.splitlines()]
    assert told[told.index("✓ work  `work`  the routing key is the queue's name") + 1 :] == lines
