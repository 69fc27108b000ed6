"""What the rules about workers say, happens: real workers of the examples, as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import ResourceLocked
from celery import chord
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

from tests.support import check_example
from tests.support.check_live import Rig
from tests.support.programs import PATIENCE
from waybill.celery_app.fleet.workers import Worker
from waybill.check import RULES, Facts, check, facts_of
from waybill.testing.brokers import Address, environment
from waybill.testing.workers import LocalWorkers, Zygote

# Behind an example: its worker tells when it is ready, and what it received and ran, through a queue of the same vhost.
TELLING = """

from celery import signals

def tell(word):
    with app.connection_for_write() as connection:
        connection.Producer().publish(word, routing_key="told")

@signals.worker_ready.connect(weak=False)
def _ready(**_):
    tell("ready")
"""
RUNS = """
@signals.task_prerun.connect(weak=False)
def _ran(task, **_):
    tell(task.name.rpartition(".")[2])
"""


pytestmark = pytest.mark.workers


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


@pytest.fixture
def rig(waybill_broker: Address, tmp_path: Path) -> Callable[[str], Any]:
    """Makes an example's application stand at a vhost of its own."""
    return lambda example: check_example.standing(waybill_broker, example, tmp_path)


Working = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def working(plain_zygote: Zygote) -> Working:
    """Starts a worker of the example, or of another module, that tells what it does; it is ready in the block."""

    @contextmanager
    def working(rig: Rig, *options: str, app: str = "") -> Iterator[None]:
        Queue("told")(rig.channel).declare()
        name = app or rig.module.__name__
        arguments = ("-A", name, "worker", "-n", f"{name}@h", "--without-mingle", "--without-gossip", "-c", "1")
        worker = Worker(name, f"{name}@h", (), (*arguments, *options))
        with LocalWorkers([worker], environment(rig.address.url), Path.cwd(), plain_zygote):
            assert rig.told(1) == ["ready"]
            yield

    return working


def test_a_retry_multiplies(rig: Any, working: Working) -> None:
    """WB106: 3 queues and 2 retries make 39 runs of one publication, as the finding says."""
    with rig(RULES["WB106"].failing + TELLING + RUNS + "push.default_retry_delay = 0") as made:
        (finding,) = check(Facts(facts_of(made.app)), select=["WB106"]).findings
        assert "3 + 9 + 27 runs" in finding.found.text
        made.declare()
        with working(made, "-P", "solo"):
            made.send("push")
            assert made.told(39) == ["push"] * 39
        assert made.held() == {}
        assert made.taken("told") == []


STALLING = """
app.conf.worker_concurrency = 1
fetch.run = lambda: None

@app.task(name="proj.now")
def now(): ...
"""


@pytest.mark.parametrize(("example", "countdown", "first"), [("failing", 2, "fetch"), ("fixed", 60, "now")])
def test_delayed_tasks_stall_a_worker(rig: Any, working: Working, example: str, countdown: int, first: str) -> None:
    """WB102: a task that could run at once runs only after the delayed ones, which fill the prefetch."""
    with rig(getattr(RULES["WB102"], example) + TELLING + RUNS + STALLING) as made:
        made.declare()
        with working(made, "-P", "threads"):
            for _ in range(made.app.conf.worker_prefetch_multiplier):
                made.send("fetch", countdown=countdown)
            made.send("now")
            assert made.told(1) == [first]


GATED = """
@app.task(name="proj.work")
def work(name):
    if name == "first":
        with app.connection_for_write() as connection:
            connection.SimpleQueue("go").get(timeout=30)
    tell(f"ran {name}")

@signals.task_received.connect(weak=False)
def _received(request, **_):
    tell(f"received {request.args[0]}")
"""


def test_prefetch_hides_the_priority(rig: Any, working: Working) -> None:
    """WB311: what the worker has prefetched runs before what is more urgent."""
    with rig(RULES["WB311"].failing + TELLING + GATED) as made:
        made.declare()
        with working(made, "-P", "threads"):
            made.send("work", "first", priority=1)
            made.send("work", "low", priority=1)
            assert made.told(2) == ["received first", "received low"]
            made.send("work", "urgent", priority=9)
            made.connection.SimpleQueue("go").put({})
            assert [word for word in made.told(4) if word.startswith("ran")] == ["ran first", "ran low", "ran urgent"]


def test_a_prefetch_of_one_heeds_the_priority(rig: Any, working: Working) -> None:
    """WB311: with late acks and a multiplier of one, what is urgent runs next."""
    with rig(RULES["WB311"].fixed + TELLING + GATED) as made:
        made.declare()
        with working(made, "-P", "threads"):
            made.send("work", "first", priority=1)
            assert made.told(1) == ["received first"]
            made.send("work", "low", priority=1)
            made.send("work", "urgent", priority=9)
            made.connection.SimpleQueue("go").put({})
            assert [word for word in made.told(5) if word.startswith("ran")] == ["ran first", "ran urgent", "ran low"]


UNKNOWN = """
@signals.task_unknown.connect(weak=False)
def _unknown(name, **_):
    tell(f"unknown {name}")
"""


def test_a_worker_discards_what_it_does_not_know(rig: Any, working: Working, tmp_path: Path) -> None:
    """WB113."""
    (tmp_path / "stranger.py").write_text(check_example.PRELUDE + TELLING + UNKNOWN)
    with rig(RULES["WB113"].failing) as made:
        made.declare()
        with working(made, "-P", "solo", app="stranger"):
            made.send("index")
            assert made.told(1) == ["unknown proj.index"]
        assert made.held() == {}


def test_a_worker_discards_a_misspelt_name(rig: Any, working: Working) -> None:
    """WB124."""
    with rig(RULES["WB124"].failing + TELLING + UNKNOWN) as made:
        made.declare()
        with working(made, "-P", "solo"):
            made.module.later()
            assert made.told(1) == ["unknown proj.send_reciept"]
        assert made.held() == {}


DELETED = """
@signals.task_rejected.connect(weak=False)
def _deleted(**_):
    tell("deleted")
"""


@pytest.mark.parametrize(("queue", "told"), [("events", {"event", "deleted"}), ("celery", {"event"})])
def test_a_step_shares_its_queue(rig: Any, working: Working, queue: str, told: set[str]) -> None:
    """WB317: with its queue in -Q Celery's own consumer gets a part of the messages, and deletes them."""
    example = RULES["WB317"].failing.replace("message.ack()", 'message.ack(), tell("event")')
    with rig(example + TELLING + DELETED) as made, working(made, "-P", "solo", "-Q", queue):
        with Connection(made.address.url) as connection:
            for number in range(8):
                connection.Producer().publish({"number": number}, exchange="stock", routing_key="stock.low")
        assert set(made.told(8)) == told


PRIORITIES = """
@signals.task_prerun.connect(weak=False)
def _priority(task, **_):
    tell(f"{task.name} {task.request.delivery_info['priority'] or 0}")
"""


@pytest.mark.parametrize(("example", "second"), [("failing", 0), ("fixed", 9)])
def test_a_chain_keeps_its_priority_for_the_first(rig: Any, working: Working, example: str, second: int) -> None:
    """WB313."""
    with rig(getattr(RULES["WB313"], example) + TELLING + PRIORITIES) as made:
        made.declare()
        with working(made, "-P", "solo"):
            made.module.later()
            told: list[str] = []
            while len(told) < 2:
                told += [word for word in made.told(1) if word.startswith("proj.")]
        assert told == ["proj.first 9", f"proj.second {second}"]


@pytest.mark.parametrize(("example", "dead"), [("failing", {}), ("fixed", {"dead": 1})])
def test_a_rejection_needs_late_acks(rig: Any, working: Working, example: str, dead: dict[str, int]) -> None:
    """WB314."""
    with rig(getattr(RULES["WB314"], example) + TELLING + RUNS) as made:
        made.declare()
        with working(made, "-P", "solo", "-Q", "celery"):
            made.send("cancel")
            assert made.told(1) == ["cancel"]
        assert made.held() == dead


def test_a_worker_creates_the_queue_that_it_misspells(rig: Any, working: Working) -> None:
    """WB118: the worker is up, and what is sent to the right queue stays there."""
    with rig(RULES["WB118"].failing + TELLING) as made:
        made.declare()
        made.publish("", "reports")
        with working(made, "-P", "solo", "-Q", "celery,report"):
            made.channel.queue_declare("report", passive=True)
        assert made.held() == {"reports": 1}


def test_a_worker_ends_at_the_queue_that_it_may_not_create(tmp_path: Path) -> None:
    """WB118, with task_create_missing_queues off: it is an error, and not a warning."""
    example = RULES["WB118"].failing + "\napp.conf.task_create_missing_queues = False"
    facts = check_example.facts(check_example.load(example, tmp_path), tmp_path)
    (finding,) = check(facts, select=["WB118"]).findings
    assert finding.severity.word == "error"
    (tmp_path / "strict.py").write_text(check_example.PRELUDE + example)
    command = [sys.executable, "-m", "celery", "-A", "strict", "worker", "-Q", "celery,report"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0
    assert "ImproperlyConfigured" in done.stderr


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
    with Connection("memory://") as connection, connection.channel() as channel:
        Queue("usa", Exchange("news", "topic"), "usa.#")(channel).declare()
        producer = connection.Producer(channel)
        producer.publish({}, exchange="news", routing_key="usa")
        assert channel.basic_get("usa") is None
        with pytest.raises(KeyError):
            Queue("pdf", Exchange("documents", "headers"), binding_arguments={"a": 1})(channel).declare()


DYING = """
@app.task(name="proj.die")
def die(marker):
    import os, signal
    tell("run")
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

@app.task(name="proj.after")
def after():
    tell("after")
"""


@pytest.mark.parametrize(("example", "told"), [("failing", ["after", "run"]), ("fixed", ["after", "run", "run"])])
def test_a_killed_process_is_acknowledged(
    rig: Any, working: Working, tmp_path: Path, example: str, told: list[str]
) -> None:
    """WB308: with late acks alone the task is gone; with task_reject_on_worker_lost it runs again."""
    with rig(getattr(RULES["WB308"], example) + TELLING + DYING) as made:
        made.declare()
        with working(made, "-P", "prefork"):
            made.send("die", str(tmp_path / "marker"))
            made.send("after")
            assert sorted(made.told(len(told))) == told
        assert made.held() == {}
        assert made.taken("told") == []


WAITING = """
@app.task(name="proj.train", acks_late=True)
def train():
    tell("run")
    with app.connection_for_write() as connection:
        connection.SimpleQueue("go").get(timeout=30)
"""


def test_a_task_outlasts_the_consumer_timeout(rig: Any, working: Working) -> None:
    """WB302: it runs a second time while the first run still goes on."""
    queue = """app.conf.task_queues = [
    Queue("celery", queue_arguments={"x-queue-type": "quorum", "x-consumer-timeout": 1000})
]"""
    with rig(queue + TELLING + WAITING) as made:
        if made.address.is_embedded:
            pytest.skip("the embedded broker has no consumer timeout")
        made.declare()
        with working(made, "-P", "threads", "-c", "2"):
            made.send("train")
            assert made.told(2) == ["run", "run"]
            for _ in range(2):
                made.connection.SimpleQueue("go").put({})


def test_an_exclusive_queue_is_locked(rig: Any) -> None:
    """WB217: the publisher declares the queue too, and it belongs to the connection that was first."""
    with rig(RULES["WB217"].failing) as made:
        made.declare()  # as a worker does
        with Connection(made.address.url) as publisher, pytest.raises(OperationalError, match="405"):
            made.module.report.apply_async(producer=publisher.Producer(), retry=False)


@pytest.mark.parametrize(("example", "runs"), [("failing", 2), ("fixed", 1)])
def test_a_stream_is_read_by_each_worker(rig: Any, working: Working, tmp_path: Path, example: str, runs: int) -> None:
    """WB318: both workers run the task, and what was sent before they started is run by none."""
    code = getattr(RULES["WB318"], example) + TELLING + RUNS
    with rig(code) as made:
        if made.address.is_embedded:
            pytest.skip("the embedded broker has no streams")
        made.declare()
        (tmp_path / "second.py").write_text(check_example.PRELUDE + code)
        if example == "failing":
            made.send("report")
        with working(made, "-P", "solo"), working(made, "-P", "solo", app="second"):
            made.send("report")
            assert made.told(runs) == ["report"] * runs
        assert made.taken("told") == []


MEETING = """
import threading
together = threading.Barrier(2)
book.run = lambda: (together.wait(30), tell("met"))
"""


def test_a_single_active_consumer_runs_tasks_side_by_side(rig: Any, working: Working) -> None:
    """WB319: two tasks of the queue meet, as they only can while both run."""
    with rig(RULES["WB319"].failing + TELLING + MEETING) as made:
        made.declare()
        with working(made, "-P", "threads", "-c", "2"):
            made.send("book")
            made.send("book")
            assert made.told(2) == ["met", "met"]


@pytest.mark.parametrize(
    ("queues", "runs", "dead"), [((), 2, {}), (("-X", "dead"), 1, {"dead": 1})], ids=["both queues", "-X dead"]
)
def test_a_worker_runs_its_own_dead_letters(
    rig: Any, working: Working, queues: tuple[str, ...], runs: int, dead: dict[str, int]
) -> None:
    """WB320: it rejects the task a second time, and the task is gone."""
    with rig(RULES["WB320"].failing + TELLING + RUNS) as made:
        made.declare()
        with working(made, "-P", "solo", *queues):
            made.send("order")
            assert made.told(runs) == ["order"] * runs
        assert made.held() == dead
