"""explain, check, topology and what diff asks of an application call no handler, and leave no trace."""

from __future__ import annotations

import copy
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task
from celery.backends.base import BaseBackend
from celery.signals import after_task_publish, before_task_publish, task_sent
from celery.utils.dispatch.signal import Signal
from kombu import Exchange, Queue

from tests.support.programs import call
from waybill import check
from waybill.celery_app import publication
from waybill.celery_app.fleet.workers import Fleet
from waybill.celery_app.handlers import RECEIVERS, before_publish_handlers, silenced
from waybill.check import Facts, facts_of
from waybill.diff import declared_by
from waybill.errors import InputError
from waybill.explain import Explanation, explain_task

SIGNALS = (before_task_publish, after_task_publish, task_sent)
HERE = __name__
NEWS = Exchange("news", "headers")
BY_REGION = {"x-match": "all", "region": "eu"}

written: list[str] = []


class Backend(BaseBackend):
    """A result backend that writes: as a database's does, which creates its tables when it is made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        written.append("backend made")

    def on_task_call(self, *_: Any, **__: Any) -> None:
        written.append("backend told of a task")


class Noted(Task):
    """A task class with an `apply_async` of its own, as applications have that keep an outbox's state."""

    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        result = super().apply_async(*args, **options)
        self.backend.store_result(result.id, None, "PENDING")
        return result

    def before_start(self, *_: Any) -> None:
        written.append("before_start")


def route(name: str, *_: Any, **__: Any) -> dict[str, Any] | None:
    """Decides, so it's asked."""
    return {"exchange": "news", "routing_key": "x", "exchange_type": "headers"} if name == "quiet.news" else None


def work() -> None:
    """What a worker would run."""
    written.append("ran")


def application(**settings: Any) -> Celery:
    """An application that writes wherever it may."""
    app = Celery("quiet", broker="amqp://nobody@broker.invalid//", backend=Backend, set_as_current=False)
    app.conf.update(
        task_queues=[Queue("celery"), Queue("eu", NEWS, binding_arguments=BY_REGION)], task_routes=[route], **settings
    )
    for name in ("news", "plain"):
        app.task(work, name=f"quiet.{name}", base=Noted, shared=False, max_retries=1)
    app.finalize()
    return app


def stamp(headers: dict[str, Any], **_: Any) -> None:
    """Changes the route: the one handler that `--signals` may call."""
    headers["region"] = "eu"
    written.append("stamp")


class Outbox:
    """Handlers that are methods, connected weakly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def before(self, **_: Any) -> None:
        self._write("before")

    def sent(self, **_: Any) -> None:
        self._write("sent")

    def _write(self, word: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{word}\n")
        written.append(word)


@pytest.fixture(autouse=True)
def no_other_handlers() -> Iterator[None]:
    """Signals are the process's: without the handlers of other applications that were loaded into it."""
    before = receivers()
    for signal in SIGNALS:
        signal.receivers.clear()
    yield
    for signal, connected in zip(SIGNALS, before, strict=True):
        signal.receivers[:] = connected


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """Handlers of every kind, connected; each writes."""
    written.clear()
    made = Outbox(tmp_path / "outbox")
    before_task_publish.connect(stamp, sender="quiet.news")
    before_task_publish.connect(made.before)
    for signal in (after_task_publish, task_sent):
        signal.connect(made.sent)
        signal.connect(partial(made.sent), weak=False, sender="quiet.plain")
    return made


def receivers() -> list[list[Any]]:
    return [list(signal.receivers) for signal in SIGNALS]


# who asks -> what is asked of the application
QUESTIONS: tuple[Callable[[Celery], object], ...] = (
    lambda app: explain_task(app, "quiet.news", {}),
    lambda app: explain_task(app, "quiet.plain", {"countdown": 5}, Fleet(())),
    lambda app: check.check(Facts(facts_of(app))),
    declared_by,
)


@pytest.mark.parametrize("ask", QUESTIONS, ids=["explain", "explain a countdown", "check", "diff"])
@pytest.mark.parametrize("is_eager", [False, True], ids=["", "eager"])
def test_nothing_is_called_and_nothing_is_left(
    outbox: Outbox, ask: Callable[[Celery], object], is_eager: bool, recwarn: pytest.WarningsRecorder
) -> None:
    app = application(task_always_eager=is_eager)
    app.conf.get("broker_url")
    before = state(app)
    recwarn.clear()
    ask(app)
    assert written == []
    assert not outbox.path.exists()
    assert state(app) == before
    # Celery 5.3 has one of its own on Python 3.12 and later.
    assert not [one for one in recwarn.list if "utcnow" not in str(one.message)]


# What Celery keeps of a task's decorator when it's first asked for it.
CACHE = "_exec_options"


def state(app: Celery) -> dict[str, Any]:
    """What a question could leave changed."""
    loggers = [logging.getLogger(), *map(logging.getLogger, ("celery", "celery.app.base", publication.SIGNALS_LOGGER))]
    return {
        "conf": [copy.copy(layer) for layer in app.conf.maps],
        "tasks": {name: {**vars(task), CACHE: None} for name, task in app.tasks.items()},
        "queues": {name: queue.as_dict() for name, queue in app.amqp.queues.items()},
        "producer": (vars(app.amqp).get("Producer"), vars(app.amqp).get("_producer_pool"), app._pool),
        "backend": (app._backend_cache, vars(app._local).get("backend")),
        "logging": [(logger.level, logger.propagate, logger.handlers[:], logger.filters[:]) for logger in loggers],
        "receivers": receivers(),
        "signals": [sorted(vars(signal)) for signal in SIGNALS],
    }


@pytest.mark.usefixtures("outbox")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt], ids=lambda error: error.__name__)
def test_nothing_is_left_after_an_exception(error: type[BaseException]) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    app = application(task_always_eager=True)
    app.conf.task_routes = [broken]
    before = state(app)
    with suppress(InputError, KeyboardInterrupt):
        explain_task(app, "quiet.plain", {})
        pytest.fail("the router wasn't asked")
    assert state(app) == before
    assert written == []
    with suppress(KeyboardInterrupt):
        facts_of(app)
    assert state(app) == before


@pytest.mark.usefixtures("outbox")
def test_a_real_publication_calls_them_all_afterwards() -> None:
    explain_task(application(), "quiet.plain", {})
    for signal in SIGNALS:
        signal.send(sender="quiet.plain", headers={})
    assert sorted(written) == ["before", "sent", "sent", "sent", "sent"]


def test_with_signals_the_handlers_before_a_publication_are_called_once(outbox: Outbox) -> None:
    app = application()
    unasked = explain_task(app, "quiet.news", {})
    assert unasked.trace.queues == ()
    assert handlers_in(unasked) == (
        "before_task_publish handlers not called, and they may change the headers (--signals calls them): "
        f"{HERE}.stamp, {HERE}.Outbox.before"
    )
    asked = explain_task(app, "quiet.news", {}, calls_handlers=True)
    assert asked.trace.queues == ("eu",)
    assert asked.publication.headers["region"] == "eu"
    assert handlers_in(asked) == f"before_task_publish handlers called: {HERE}.stamp, {HERE}.Outbox.before"
    assert written == ["stamp", "before"]
    assert outbox.path.read_text() == "before\n"


def handlers_in(explanation: Explanation) -> str:
    (remark,) = (one for one in explanation.remarks if one.startswith("before_task_publish"))
    return remark


@pytest.mark.usefixtures("outbox")
def test_check_names_the_handlers_that_it_did_not_call() -> None:
    report = check.check(Facts(facts_of(application())))
    names = [f"{HERE}.Outbox.before", f"{HERE}.stamp"]
    assert sorted(report.to_json()["handlers_not_called"]) == names
    (line,) = (line for line in check.report.text(report).splitlines() if line.startswith("not called"))
    assert line.startswith("not called: 2 before_task_publish handlers, which may change headers and with them a route")


def test_without_handlers_nothing_is_said() -> None:
    app = application()
    report = check.check(Facts(facts_of(app)))
    assert report.handlers == ()
    assert "not called" not in check.report.text(report)
    assert not [remark for remark in explain_task(app, "quiet.plain", {}).remarks if "handlers" in remark]


# The same at the terminal; the handlers write into a file beside the application.
PROGRAM = """
from pathlib import Path
from celery import Celery
from celery.signals import after_task_publish, before_task_publish

app = Celery("handled", broker="amqp://nobody@broker.invalid//", set_as_current=False)

def write(word):
    with open("written", "a") as file:
        file.write(word)

@before_task_publish.connect(weak=False)
def before(headers, **_):
    headers["stamped"] = 1
    write("before ")

@after_task_publish.connect(weak=False)
def after(**_):
    write("after ")

@app.task(name="handled.task", shared=False)
def task(): ...
"""


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handled_quietly.py").write_text(PROGRAM)

    def run(*arguments: str) -> str:
        result = call("waybill.cli", "-A", "handled_quietly", *arguments)
        assert (result.code, result.err) == (0, "")
        return result.out

    run("topology")
    assert "not called, and they may" in run("explain", "handled.task")
    answer = json.loads(run("check", "--json", "--fail-on", "error"))
    assert answer["handlers_not_called"] == ["handled_quietly.before"]
    assert not (tmp_path / "written").exists()
    explained = json.loads(run("explain", "handled.task", "--signals", "--json"))
    assert explained["headers"]["stamped"] == 1
    assert (tmp_path / "written").read_text() == "before "


@pytest.mark.usefixtures("outbox")
def test_what_a_handler_raises_is_a_remark(capfd: pytest.CaptureFixture[str]) -> None:
    def failing(**_: Any) -> None:
        raise ValueError("no tenant")

    before_task_publish.connect(failing, sender="quiet.plain")
    found = explain_task(application(), "quiet.plain", {}, calls_handlers=True)
    assert any("failing raised ValueError('no tenant'): Celery logs that" in remark for remark in found.remarks)
    assert written == ["before"]
    assert capfd.readouterr() == ("", "")


def module_level(**_: Any) -> None:
    """A handler."""


class Called:
    def __call__(self, **_: Any) -> None:
        """A handler."""


@pytest.mark.parametrize(
    ("connect", "name"),
    [
        (lambda: before_task_publish.connect(module_level, weak=False), f"{HERE}.module_level"),
        (lambda: before_task_publish.connect(partial(module_level), weak=False), f"{HERE}.module_level"),
        (lambda: before_task_publish.connect(Called(), weak=False), f"{HERE}.Called"),
        (lambda: before_task_publish.connect(module_level, retry=True), f"{HERE}.module_level"),
        (lambda: before_task_publish.connect(module_level, dispatch_uid="one"), f"{HERE}.module_level"),
        (lambda: before_task_publish.connect(module_level, sender="another"), None),
    ],
    ids=["function", "partial", "object", "retried", "uid", "another sender"],
)
def test_how_a_handler_is_named(connect: Callable[[], object], name: str | None) -> None:
    connect()
    assert before_publish_handlers(["quiet.plain"]) == (() if name is None else (name,))


@pytest.mark.usefixtures("outbox")
def test_other_threads_publish_as_ever() -> None:
    """While one thread asks, the signals of another are heard, and its messages aren't swallowed by the recorder."""
    app = application()
    pool: list[object] = []

    def elsewhere() -> None:
        before_task_publish.send(sender="quiet.plain", headers={})
        with app.amqp.producer_pool.acquire(block=True) as producer:
            pool.append(producer)
        pool.append(app.amqp.Producer(producer.connection))

    def asked(*_: Any, **__: Any) -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    app.conf.task_routes = [asked]
    explain_task(app, "quiet.plain", {})
    assert written == ["before"] * len(pool[::2])  # a router is asked twice: by Celery, and for its name
    assert pool
    assert not any(isinstance(one, publication._Recorder) for one in pool)


def test_signals_may_be_silenced_within_each_other_and_be_connected_meanwhile() -> None:
    heard: list[str] = []
    signal = Signal(name="tried")

    def one(**_: Any) -> None:
        heard.append("one")

    def two(**_: Any) -> None:
        heard.append("two")

    signal.connect(one)
    with silenced(signal):
        with silenced(signal):
            signal.send(sender=None)
            signal.connect(two)
        signal.send(sender=None)
        signal.disconnect(one)
    signal.send(sender=None)
    assert heard == ["two"]
    assert RECEIVERS not in vars(signal)


def test_silence_ends_with_its_block_while_another_thread_still_keeps_it() -> None:
    heard: list[object] = []
    signal = Signal(name="tried")
    begun, over = threading.Event(), threading.Event()

    def hear(**_: Any) -> None:
        heard.append(threading.current_thread())

    def other() -> None:
        with silenced(signal):
            begun.set()
            over.wait()
            signal.send(sender=None)

    signal.connect(hear)
    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    try:
        with silenced(signal):
            signal.send(sender=None)
        signal.send(sender=None)
    finally:
        over.set()
        thread.join()
    assert heard == [threading.main_thread()]
