"""Celery workers on the embedded broker: pools, results, retries, ETA, events, remote control, delayed delivery."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery

from tests.support.apps.quorum import QUORUM_VARIABLE, URL_VARIABLE, make_app
from tests.support.programs import PATIENCE, until
from waybill.broker import Broker


@dataclass
class Fleet:
    """A worker and the application that talks to it."""

    app: Celery
    broker: Broker
    name: str

    def send(self, task: str, *arguments: Any, **options: Any) -> Any:
        """Send a task and wait for its result."""
        return self.app.send_task(task, arguments, **options).get(timeout=PATIENCE)


@contextmanager
def fleet(pool: str, *, is_quorum: bool = False) -> Iterator[Fleet]:
    """A broker and a worker of this pool, ready to work."""
    with Broker() as broker:
        environment = {**os.environ, URL_VARIABLE: broker.url, QUORUM_VARIABLE: "1" if is_quorum else ""}
        name = f"{pool}@localhost"
        command = [sys.executable, "-m", "celery", "-A", "tests.support.apps.quorum", "worker"]
        command += ["-P", pool, "-c", "2", "-n", name, "-E", "--loglevel", "WARNING"]
        worker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        app = make_app(broker.url, is_quorum=is_quorum)
        try:
            wait_for_worker(app, worker)
            yield Fleet(app, broker, name)
        finally:
            wait_until_idle(app)
            app.close()
            worker.send_signal(signal.SIGTERM)
            output, _ = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0, output.decode()


def wait_for_worker(app: Celery, worker: subprocess.Popen[bytes]) -> None:
    """Return when the worker answers a ping; each ping waits for its answer, so nothing sleeps here."""
    deadline = time.monotonic() + PATIENCE
    while not app.control.ping(timeout=0.5):
        assert worker.poll() is None, (worker.stdout.read() if worker.stdout else b"").decode()
        assert time.monotonic() < deadline, "the worker never answered"


def wait_until_idle(app: Celery) -> None:
    """Return when no task waits for the worker's pool: told to stop before, its processes wait for half a minute."""
    inspect = app.control.inspect(timeout=PATIENCE, limit=1)
    until(lambda: not any((inspect.reserved() or {}).values()), "the worker's pool has everything")


@pytest.fixture(scope="module", params=["threads", "prefork"])
def working(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    with fleet(request.param) as made:
        yield made


def test_results_come_back_over_rpc(working: Fleet) -> None:
    results = [working.app.send_task("add", (number, 1)) for number in range(50)]
    assert [result.get(timeout=PATIENCE) for result in results] == list(range(1, 51))


def test_a_task_may_be_retried(working: Fleet) -> None:
    assert working.send("again", 2) == 2


def test_a_countdown_is_kept(working: Fleet) -> None:
    started = time.monotonic()
    assert working.send("add", 1, 1, countdown=0.5) == 2
    assert time.monotonic() - started >= 0.4


def test_priorities_reach_the_queue(working: Fleet) -> None:
    assert working.send("add", 2, 2, priority=9) == 4


def test_remote_control_answers(working: Fleet) -> None:
    inspect = working.app.control.inspect([working.name], timeout=PATIENCE, limit=1)
    assert list(inspect.ping()) == [working.name]
    inspect = working.app.control.inspect([working.name], timeout=PATIENCE, limit=1)
    assert [queue["name"] for queue in inspect.active_queues()[working.name]] == ["work"]


def test_events_arrive(working: Fleet) -> None:
    seen: list[str] = []

    def note(event: dict[str, Any]) -> None:
        seen.append(event["type"])

    with working.app.connection() as connection:
        receiver = working.app.events.Receiver(connection, handlers={"*": note})
        with receiver.consumer_context(wakeup=False) as (own, _, _):
            working.app.send_task("add", (1, 2))
            deadline = time.monotonic() + PATIENCE
            while "task-succeeded" not in seen and time.monotonic() < deadline:
                own.drain_events(timeout=PATIENCE)
    assert {"task-received", "task-started", "task-succeeded"} <= set(seen)


def test_native_delayed_delivery_on_quorum_queues() -> None:
    with fleet("threads", is_quorum=True) as working:
        started = time.monotonic()
        assert working.send("add", 20, 22, countdown=2) == 42
        assert time.monotonic() - started >= 1.5
        vhost = working.broker.node.vhosts["/"]
        assert "celery_delayed_27" in vhost.router.exchanges
        assert vhost.queues["celery_delayed_0"].is_quorum
        assert working.send("again", 1) == 1
