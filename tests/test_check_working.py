"""What the rules about workers say, happens: real workers of the examples, in threads and as processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import ResourceLocked
from celery import Celery, chord
from celery.contrib.testing.worker import start_worker
from celery.exceptions import ImproperlyConfigured, WorkerLostError
from celery.signals import task_received, task_unknown
from kombu import Connection

from tests import check_example
from tests.check_live import PATIENCE, Rig, own_vhost
from waybill.check import RULES, Facts, check, facts_of
from waybill.fleet import Worker
from waybill.processes import LocalWorkers
from waybill.provision import Address, environment


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


@pytest.fixture
def rig(waybill_broker: Address, tmp_path: Path) -> Callable[[str], Any]:
    """Makes an example's application stand at a vhost of its own."""
    return lambda example: check_example.standing(waybill_broker, example, tmp_path)


@contextmanager
def working(app: Celery, queues: tuple[str, ...] = (), concurrency: int = 1) -> Iterator[None]:
    """A worker of the application, in a thread."""
    named = {"queues": list(queues)} if queues else {}
    with start_worker(app, concurrency, "threads", perform_ping_check=False, loglevel="CRITICAL", **named):
        yield


class Ran:
    """Notes what ran, and waits until so much has."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, name: str) -> None:
        with self._changed:
            self.names.append(name)
            self._changed.notify_all()

    def wait(self, count: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.names) >= count, PATIENCE), self.names
            return list(self.names)


def test_a_retry_multiplies(rig: Any) -> None:
    """WB106: 3 queues and 2 retries make 39 runs of one publication, as the finding says."""
    with rig(RULES["WB106"].failing) as made:
        (finding,) = check(Facts(facts_of(made.app)), select=["WB106"]).findings
        assert "3 + 9 + 27 runs" in finding.found.text
        ran, task = Ran(), made.module.push
        task.default_retry_delay = 0
        run = task.run
        task.run = lambda *args: (ran("push"), run(*args))[1]
        made.declare()
        with working(made.app):
            made.send("push")
            assert len(ran.wait(39)) == 39
        assert made.held() == {}
        assert len(ran.names) == 39


def test_delayed_tasks_stall_a_worker(rig: Any) -> None:
    """WB102: a task that could run at once runs only after the delayed ones, which fill the prefetch."""
    for example, first in ((RULES["WB102"].failing, "fetch"), (RULES["WB102"].fixed, "now")):
        with rig(example) as made:
            ran = Ran()
            made.module.fetch.run = lambda ran=ran: ran("fetch")
            made.module.now = made.app.task(name="now")(lambda ran=ran: ran("now"))
            made.declare()
            with working(made.app):
                for _ in range(made.app.conf.worker_prefetch_multiplier):
                    made.send("fetch", countdown=2)
                made.send("now")
                assert ran.wait(5)[0] == first


def test_prefetch_hides_the_priority(rig: Any) -> None:
    """WB311: what the worker has prefetched runs before what is more urgent."""
    for example, order in (
        (RULES["WB311"].failing, ["first", "low", "urgent"]),
        (RULES["WB311"].fixed, ["first", "urgent", "low"]),
    ):
        with rig(example) as made:
            ran, go, received = Ran(), threading.Event(), Ran()

            def work(name: str, ran: Ran = ran, go: threading.Event = go) -> None:
                assert name != "first" or go.wait(PATIENCE)
                ran(name)

            made.module.urgent.typing = False
            made.module.urgent.run = work

            def hear(request: Any, received: Ran = received, **_: object) -> None:
                received(request.args[0])

            task_received.connect(hear)
            made.declare()
            with working(made.app):
                made.send("urgent", "first", priority=1)
                received.wait(1)
                made.send("urgent", "low", priority=1)
                if order[1] == "low":
                    received.wait(2)
                made.send("urgent", "urgent")
                go.set()
                assert ran.wait(3) == order
            task_received.disconnect(hear)


def test_a_worker_discards_what_it_does_not_know(rig: Any) -> None:
    """WB113."""
    with rig(RULES["WB113"].failing) as made:
        made.declare()
        made.send("index")
        other = Celery("other", broker=made.address.url, set_as_current=False)
        unknown = Ran()

        def hear(name: str, **_: object) -> None:
            unknown(name)

        task_unknown.connect(hear)
        with working(other):
            assert unknown.wait(1) == ["proj.index"]
        task_unknown.disconnect(hear)
        assert made.held() == {}


def test_a_worker_creates_the_queue_that_it_misspells(rig: Any) -> None:
    """WB118: the worker is up, and what is sent to the right queue stays there."""
    with rig(RULES["WB118"].failing) as made:
        made.declare()
        made.publish("", "reports")
        with working(made.app, ("celery", "report")):
            made.channel.queue_declare("report", passive=True)
        assert made.held() == {"reports": 1}
    with rig(RULES["WB118"].failing) as made:
        made.app.conf.task_create_missing_queues = False
        made.app.amqp.__dict__.pop("queues", None)
        with pytest.raises(ImproperlyConfigured), working(made.app, ("celery", "report")):
            pass


def test_two_workers_of_one_name(rig: Any) -> None:
    """WB206: the second doesn't get the queue of its name, which the first has for itself."""
    with rig(RULES["WB206"].failing) as made, Connection(made.address.url) as second:
        node = made.app.control.mailbox.Node("one@host")
        first = node.Consumer(made.channel)
        first.consume()
        with pytest.raises(ResourceLocked), second.channel() as channel:
            made.app.control.mailbox.Node("one@host").Consumer(channel).consume()


def test_a_broadcast_with_a_name_is_shared(rig: Any) -> None:
    """WB304: two processes declare it, and one of them gets the message; without a name both do."""
    for example, copies in ((RULES["WB304"].failing, 1), (RULES["WB304"].fixed, 2)):
        with rig(example) as made:
            processes = [made.app.amqp.queues["everyone"], _as_in_another_process(made)]
            bound = [queue(made.channel) for queue in processes]
            for queue in bound:
                queue.declare()
            made.publish("everyone")
            assert sum(len(made.taken(name)) for name in {queue.name for queue in bound}) == copies


def _as_in_another_process(rig: Rig) -> Any:
    queue = rig.app.amqp.queues["everyone"]
    given = {"queue": queue.name} if not queue.name.startswith("bcast.") else {}
    return type(queue)("everyone", **given)


def test_copies_have_one_id(rig: Any) -> None:
    """WB309: what two workers get, and write their results under, is one and the same id."""
    with rig(RULES["WB309"].failing) as made:
        queues = [made.app.amqp.queues["everyone"], _as_in_another_process(made)]
        for queue in queues:
            queue(made.channel).declare()
        sent = made.send("reload", ignore_result=True)
        ids = [message.properties["correlation_id"] for queue in queues for message in made.taken(queue.name)]
        assert ids == [sent.id, sent.id]


def test_a_backend_that_cannot_count(rig: Any) -> None:
    """WB306."""
    with rig(RULES["WB306"].failing) as made:
        add = made.module.add
        with pytest.raises(NotImplementedError):
            chord([add.s(1, 1)], app=made.app)(add.s(1))


def test_memory_is_not_rabbitmq() -> None:
    """WB401: `usa.#` misses `usa`, and a headers exchange raises KeyError."""
    from kombu import Exchange, Queue

    with Connection("memory://") as connection, connection.channel() as channel:
        Queue("usa", Exchange("news", "topic"), "usa.#")(channel).declare()
        producer = connection.Producer(channel)
        producer.publish({}, exchange="news", routing_key="usa")
        assert channel.basic_get("usa") is None
        with pytest.raises(KeyError):
            Queue("pdf", Exchange("documents", "headers"), binding_arguments={"a": 1})(channel).declare()
            producer.publish({}, exchange="documents", headers={"a": 1})


LOST = """
app.conf.result_backend = "file://{folder}"
app.conf.broker_connection_retry_on_startup = True

@app.task(name="proj.die")
def die(marker):
    import os, signal
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"
"""


def test_a_killed_process_is_acknowledged(waybill_broker: Address, tmp_path: Path) -> None:
    """WB308: with late acks alone the task is gone; with task_reject_on_worker_lost it runs again."""
    for example, survives in ((RULES["WB308"].failing, False), (RULES["WB308"].fixed, True)):
        with own_vhost(waybill_broker) as address:
            code = check_example.PRELUDE + example + LOST.format(folder=tmp_path)
            name = f"lost_{survives}"
            (tmp_path / f"{name}.py").write_text(code)
            module = check_example.load(example + LOST.format(folder=tmp_path), tmp_path)
            arguments = ("-A", name, "worker", "-P", "prefork", "-c", "1", "-n", f"{name}@h", "--without-mingle")
            worker = Worker(name, f"{name}@h", ("celery",), arguments)
            with LocalWorkers([worker], environment(address.url), tmp_path):
                made = Rig(module, address)
                result = made.send("die", str(tmp_path / f"{name}.marker"))
                if survives:
                    assert result.get(timeout=PATIENCE) == "survived"
                else:
                    with pytest.raises(WorkerLostError):
                        result.get(timeout=PATIENCE)
                made.close()
