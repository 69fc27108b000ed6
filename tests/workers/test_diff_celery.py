"""A whole Celery at work on RabbitMQ: what it makes for itself is no difference, and the ways out lead out."""

from __future__ import annotations

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
from waybill.celery_app.fleet.workers import Worker
from waybill.diff import declared_by, difference
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
    """Worker events, remote control, `rpc://` replies, native delay, `Broadcast`: all there, and no difference."""
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
    assert app.thread_oid in live.queues
    assert {"celeryev", "celery.pidbox", "reply.celery.pidbox", "celery_delayed_delivery"} <= live.exchanges.keys()
    # Another application with the first queue alone: the delay's bindings to it are Celery's, the other queues are not.
    assert (other.create, other.failures, other.stale) == ((), (), ())
    assert {name for name in names([orphan.queue for orphan in other.queues]) if not name.startswith("bcast.")} == {
        "resize"
    }
    assert names([orphan.exchange for orphan in other.exchanges]) == ["everyone", "pictures"]


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
    title, code, command, *_, delete = failure.ways_out[-1]
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
