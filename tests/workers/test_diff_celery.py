"""A whole Celery at work on RabbitMQ: what it makes for itself is no difference, and the ways out lead out."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from tests.support.apps.everything import USA, add, app
from tests.support.diff_support import PLACE, Site, application, names, site
from tests.support.programs import PATIENCE, ROOT
from waybill.celery_app.fleet.workers import Fleet, Worker
from waybill.diff import declared_by, difference
from waybill.explain import explain_task
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.workers import LocalWorkers, Zygote


@pytest.fixture
def at(rabbitmq: Address) -> Iterator[Site]:
    with site(rabbitmq) as made:
        yield made


WORKER = Worker(
    "all",
    "all@%h",
    (),
    ("-A", "tests.support.apps.everything", "worker", "-n", "all@%h", "-c", "1", "-E", "-l", "error"),
)


def test_nothing_of_celerys_own_is_a_difference(at: Site, plain_zygote: Zygote) -> None:
    """Worker events, remote control, replies, native delay, `Broadcast`, `worker_direct`: there, and no difference."""
    with (
        brokers.use_broker(app, at.address.url),
        LocalWorkers([WORKER], brokers.environment(at.address.url), ROOT, plain_zygote) as workers,
    ):
        # The worker declares native delay before it consumes, so the answer says that all is there.
        assert add.apply_async((2, 2), queue="resize").get(timeout=PATIENCE) == 4
        workers.check_alive()
        with app.connection_for_read() as connection, _listening(app, connection):
            assert app.control.ping(timeout=PATIENCE, limit=1, connection=connection)
            live = at.live()
            plan = difference(declared_by(app), live, PLACE)
            other = difference(declared_by(application(USA)), live, PLACE)
    assert plan.is_empty, plan
    # What was there to be left out:
    kinds = ("celeryev.", "bcast.", "celery_delayed_27")
    assert {kind for kind in kinds if any(name.startswith(kind) for name in live.queues)} == set(kinds)
    assert any(name.endswith("celery.pidbox") for name in live.queues)
    assert any(name.startswith("all@") and name.endswith(".dq2") for name in live.queues)
    assert app.thread_oid in live.queues
    assert {"celeryev", "celery.pidbox", "reply.celery.pidbox", "celery_delayed_delivery"} <= live.exchanges.keys()
    # Another application with the first queue alone: the delay's bindings to it are Celery's, the other queues are not.
    assert (other.create, other.failures, other.stale) == ((), (), ())
    left = {name for name in names([orphan.queue for orphan in other.queues]) if not name.startswith("bcast.")}
    assert {name for name in left if not name.endswith(".dq2")} == {"resize"}
    assert names([orphan.exchange for orphan in other.exchanges]) == ["C.dq2", "everyone", "pictures"]


@contextmanager
def _listening(app: Celery, connection: Connection) -> Iterator[None]:
    with app.events.Receiver(connection).consumer_context():
        yield


PROJ = """\
from celery import Celery
from kombu import Queue

app = Celery("proj", backend="rpc://")
app.conf.task_queues = [{queues}]
app.conf.task_default_queue = "resize.v2"


@app.task(name="shrink")
def shrink(size):
    return size // 2
"""


def test_the_way_out_of_a_refusal(at: Site, tmp_path: Path, plain_zygote: Zygote) -> None:
    """As it says: another queue, the old one beside it without a declaration until a worker has emptied it, then
    the address that deletes it; and what was refused is taken."""
    old, wanted = Queue("resize", Exchange("pictures"), "resize", max_priority=10), Queue("resize")
    assert at.declare(old) is None
    waiting = application(old, url=at.address.url, result_backend="rpc://").send_task("shrink", (8,))
    (failure,) = at.plan(wanted).failures
    assert failure.argument == "x-max-priority"
    title, code, command, *_, delete = failure.remedies[-1]
    assert title == "or declare another, drain the old one and delete it"
    queues = code.partition(" until")[0].replace(", and beside it ", ", ").replace(", ...", "")
    assert queues == 'Queue("resize.v2"), Queue("resize", no_declare=True)'

    (tmp_path / "proj.py").write_text(PROJ.format(queues=queues))
    celery, *arguments = shlex.split(command)
    assert (celery, arguments) == ("celery", ["-A", "proj", "worker", "-Q", "resize"])
    worker = Worker("drain", "celery@%h", ("resize",), (*arguments, "-c", "1", "-l", "error"))
    with LocalWorkers([worker], brokers.environment(at.address.url), tmp_path, plain_zygote):
        assert waiting.get(timeout=PATIENCE) == 4

    address = shlex.split(delete)[-1].replace(PLACE.management, str(at.address.management_url))
    httpx.delete(address, timeout=PATIENCE).raise_for_status()
    assert at.plan(wanted).failures == ()
    assert at.declare(wanted) is None


ORDERS = """\
from celery import Celery
from celery.exceptions import Reject
from kombu import Exchange, Queue

app = Celery("orders", backend="rpc://")
app.conf.task_queues = [
    Queue("orders", Exchange("orders"), "orders", queue_arguments={"x-dead-letter-exchange": "orders.dead"}),
    Queue("orders_dead", Exchange("orders.dead", "fanout"), "dead"),
]
app.conf.task_default_queue = "orders"


@app.task(name="cancel", acks_late=True)
def cancel():
    raise Reject("unknown order", requeue=False)


@app.task(name="ship")
def ship():
    return True
"""


def test_a_worker_declares_what_it_consumes_and_no_more(
    at: Site, tmp_path: Path, plain_zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in task_queues and no worker consumes doesn't come to be, and what should go there is dropped."""
    (tmp_path / "waybill_orders.py").write_text(ORDERS)
    monkeypatch.syspath_prepend(tmp_path)
    orders = importlib.import_module("waybill_orders").app
    arguments = ("-A", "waybill_orders", "worker", "-n", "orders@%h", "-Q", "orders", "-c", "1", "-l", "error")
    worker = Worker("orders", "orders@%h", ("orders",), arguments)
    declared = declared_by(orders, Fleet((worker,)))
    before = difference(declared, at.live(), PLACE)
    assert [type(item).__name__ for item in before.create] == ["Exchange", "Queue", "Binding"]
    assert names(before.unmade) == ["orders.dead", "orders_dead"]
    (arrival,) = explain_task(orders, "cancel", fleet=Fleet((worker,))).arrivals
    assert [letter.queues for letter in arrival.unconsumed] == [()]
    assert "nobody declares `orders.dead`" in arrival.notes[0]
    with (
        brokers.use_broker(orders, at.address.url),
        LocalWorkers([worker], brokers.environment(at.address.url), tmp_path, plain_zygote),
    ):
        orders.send_task("cancel")
        assert orders.send_task("ship").get(timeout=PATIENCE)  # in the one process, after it
        live = at.live()
        assert {"orders", "orders_dead", "orders.dead"} & {*live.queues, *live.exchanges} == {"orders"}
        after = difference(declared, live, PLACE)
        assert (after.create, names(after.unmade)) == ((), ["orders.dead", "orders_dead"])
        with Connection(at.address.url) as connection:
            assert connection.default_channel.queue_declare("orders", passive=True).message_count == 0
