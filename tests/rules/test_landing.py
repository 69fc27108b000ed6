"""What the rules about routing say, happens: each example is declared and published for real, each queue read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import NotFound
from celery import Celery
from celery.exceptions import QueueNotFound
from kombu.exceptions import OperationalError

from tests.support import check_example
from tests.support.check_live import Rig
from tests.support.programs import until
from tests.support.slow_line import slow_line
from waybill.celery_app.private import drop_pools
from waybill.check import RULES
from waybill.testing.brokers import Address, use_broker

Act = Callable[[Rig], Any]
Landing = dict[str, int]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


@pytest.fixture
def rig(waybill_broker: Address, tmp_path: Path) -> Callable[[str], Any]:
    """Makes an example's application stand at a vhost of its own."""
    return lambda example: check_example.standing(waybill_broker, example, tmp_path)


def sends(task: str, **options: Any) -> Act:
    return lambda rig: rig.send(task, **options)


def by_a_stranger(task: str) -> Act:
    """Sent by name, from a process that has the settings and hasn't imported the task."""

    def act(rig: Rig) -> None:
        stranger = Celery("stranger", broker=rig.app.conf.broker_url, set_as_current=False)
        stranger.conf.task_routes = rig.app.conf.task_routes
        stranger.send_task(task, connection=rig.connection)
        rig.app.amqp.queues.select(["celery", "reports"])
        rig.declare()

    return act


def dies_in(task: str, queue: str, *, requeues: int = 0) -> Act:
    """The message is taken and rejected: for good, or back into the queue so many times."""

    def act(rig: Rig) -> None:
        rig.send(task)
        for _ in range(requeues):
            rig.channel.basic_reject(rig.channel.basic_get(queue).delivery_tag, requeue=True)
        last = rig.channel.basic_get(queue)
        if last is not None:
            rig.channel.basic_reject(last.delivery_tag, requeue=bool(requeues))

    return act


# code, what is done -> where the messages are then, in the failing example and in the fixed one
LANDINGS: tuple[tuple[str, Act, Landing, Landing], ...] = (
    ("WB101", lambda rig: rig.publish("documents", "x"), {"pdf": 1}, {}),
    ("WB103", sends("welcome"), {"celery": 1}, {"mail": 1}),
    ("WB104", sends("render"), {"cpu": 1}, {"gpu": 1}),
    ("WB105", sends("report"), {}, {"usa": 1}),
    ("WB108", sends("enlarge"), {"small": 1, "large": 1}, {"large": 1}),
    ("WB109", sends("one"), {"celery": 1, "a": 1, "b": 1}, {"a": 1}),
    ("WB110", sends("resize"), {}, {"resize": 1}),
    ("WB111", sends("report"), {"report": 1}, {"reports": 1}),
    ("WB112", sends("clean_up"), {"celery": 1}, {"images": 1}),
    ("WB115", by_a_stranger("proj.index"), {"celery": 1}, {"reports": 1}),
    ("WB116", sends("encode"), {"all": 1}, {"videos": 1}),
    ("WB119", sends("report"), {"reports": 1}, {"reports": 1}),
    ("WB210", dies_in("index", "celery"), {}, {"dead_letters": 1}),
    ("WB211", lambda rig: rig.publish("news", "norway"), {}, {"unfiled": 1}),
    ("WB213", lambda rig: rig.publish("news", "usa.news"), {}, {"usa": 1}),
    ("WB215", dies_in("index", "celery"), {}, {"dead_letters": 1}),
    ("WB303", dies_in("import_file", "celery", requeues=20), {}, {"dead_letters": 1}),
    ("WB305", sends("convert", headers={"format": "pdf"}), {"pdf": 1}, {"pdf": 1}),
    ("WB305", sends("convert"), {}, {"unfiled": 1}),
    ("WB307", lambda rig: rig.app.send_task("proj.x", connection=rig.connection), {"celery": 1}, {"proj": 1}),
    ("WB402", sends("index"), {}, {"nowhere": 1}),
)


@pytest.mark.parametrize(("code", "act", "failing", "fixed"), LANDINGS, ids=[row[0] for row in LANDINGS])
def test_where_it_lands(rig: Any, code: str, act: Act, failing: Landing, fixed: Landing) -> None:
    for example, landing in ((RULES[code].failing, failing), (RULES[code].fixed, fixed)):
        with rig(example) as made:
            made.declare()
            act(made)
            assert made.held() == landing


def test_a_countdown_changes_the_queue(rig: Any) -> None:
    """WB107: after its second the task comes out of another queue than without a countdown."""
    for example, landed in ((RULES["WB107"].failing, "celery"), (RULES["WB107"].fixed, "log")):
        with rig(example) as made:
            made.declare()
            made.send("log")
            assert made.held() == {"log": 1}
            made.send("log", countdown=1)
            assert made.wait_for(("celery", "log")) == landed
            assert made.held() == {}


def test_the_key_of_a_message_is_no_pattern(rig: Any) -> None:
    """WB117: the queue's own pattern stands on the message as its key."""
    for example, key in ((RULES["WB117"].failing, "tasks.#"), (RULES["WB117"].fixed, "tasks.index")):
        with rig(example) as made:
            made.declare()
            made.send("index")
            (message,) = made.taken("all")
            assert message.delivery_info["routing_key"] == key


def test_an_exchange_that_is_not_there(rig: Any) -> None:
    """WB120: confirmed the publication fails with 404; unconfirmed (WB310) it returns as if all were well."""
    with rig(RULES["WB120"].failing) as made:
        made.declare()
        with pytest.raises(NotFound, match="no exchange 'nwes'"):
            made.send("report")
        assert made.module.report.apply_async(retry=False).id
        assert made.held() == {}


def test_mandatory_alone_tells_nobody(rig: Any) -> None:
    """WB121: the call returns an id for a task that no queue took; only together with confirms it raises."""
    with rig(RULES["WB121"].failing) as made:
        made.declare()
        options = {"exchange": "amq.topic", "routing_key": "nobody", "mandatory": True}
        assert made.module.report.apply_async(**options).id
        made.app.conf.broker_transport_options = {"confirm_publish": True}
        drop_pools(made.app)
        with pytest.raises(Exception, match="NO_ROUTE"):
            made.module.report.apply_async(**options, retry=False)
        assert made.held() == {}


def test_a_confirm_that_comes_late(rig: Any) -> None:
    """WB316: the call fails, and the task is in the queue once for each time that it was published."""
    with rig(RULES["WB316"].failing) as made:
        made.declare()
        with slow_line(made.address.url, 0.1) as url, use_broker(made.app, url):
            with pytest.raises(OperationalError):
                made.module.index.apply_async(confirm_timeout=0.02)
            drop_pools(made.app)
        until(lambda: made.held() == {"celery": 4}, made.held)


def test_a_result_backend_that_is_not_there(rig: Any) -> None:
    """WB315: no call publishes anything."""
    with rig(RULES["WB315"].failing) as made:
        made.declare()
        with pytest.raises(ImportError, match="django-db-typo"):
            made.module.index.delay()
        assert made.held() == {}


def test_celery_refuses(rig: Any) -> None:
    """WB122."""
    with rig(RULES["WB122"].failing) as made:
        made.declare()
        with pytest.raises(QueueNotFound):
            made.send("report")
    with rig(RULES["WB122"].fixed) as made:
        made.declare()
        made.send("report")
        assert made.held() == {"reports": 1}
