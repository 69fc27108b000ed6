"""What a watch says, and what happened: workers that are killed, cut off, of one name, or come late."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from kombu import Queue

from tests.support.programs import until
from tests.support.pytest_runs import write
from waybill import Watch, enable_receipts
from waybill.celery_app.fleet.workers import Worker
from waybill.errors import FleetError
from waybill.rabbitmq.management import Management
from waybill.testing import brokers
from waybill.testing import watch as watch_module
from waybill.testing.brokers import Address
from waybill.testing.workers import LocalWorkers, Zygote

WAIT = {"x-message-ttl": 700, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "again"}

SHOP = {
    "shop.py": """
        import os, socket, time
        from celery import Celery
        from celery.worker.control import control_command
        from kombu import Queue

        app = Celery("shop")
        app.conf.update(
            task_acks_late=os.environ.get("SHOP_LATE") == "1", worker_prefetch_multiplier=4, task_default_queue="one",
            broker_connection_retry_on_startup=True, worker_cancel_long_running_tasks_on_connection_loss=False,
            task_queues=[
                Queue("one"), Queue("two"), Queue("again"),
                Queue("wait", queue_arguments={
                    "x-message-ttl": 700, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "again"}),
            ],
        )

        def log(name):
            with open(os.environ["SHOP_LOG"], "a") as file:
                file.write(name + "\\n")

        @app.task(bind=True)
        def note(self, seconds=0.0):
            log(self.request.id)
            time.sleep(seconds)

        @app.task(queue="two")
        def after(_):
            time.sleep(0.3)

        @app.task(bind=True, max_retries=3)
        def flaky(self):
            time.sleep(0.2)
            if self.request.retries < 3:
                raise self.retry(countdown=0)

        @control_command(args=[("which", str)])
        def cut(state, which):
            "Break the worker's connection: of its events, or of its messages too."
            consumer = state.consumer
            broken = [consumer.event_dispatcher.connection] + [consumer.connection] * (which == "all")
            for connection in broken:
                connection.transport_options.clear()
                connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)
            return {"ok": which}

        @control_command()
        def swallow(state):
            "Let what is written to the connection of the events arrive nowhere."
            state.consumer.ends = socket.socketpair()
            state.consumer.event_dispatcher.connection.connection.transport._write = state.consumer.ends[0].sendall
            return {"ok": "swallowed"}

        @control_command()
        def choke(state):
            "Let that connection break."
            for end in state.consumer.ends:
                end.close()
            return {"ok": "broken"}
    """
}


@dataclass
class Shop:
    """The application, its workers and what their tasks have logged."""

    app: Celery
    address: Address
    folder: Path
    zygote: Zygote

    @contextmanager
    def workers(
        self, *names: str, receipts: bool = True, late: bool = True, queues: str = "one", more: tuple[str, ...] = ()
    ) -> Iterator[Any]:
        """Start a worker of each name with two processes."""
        more = (*more, *(("-I", "waybill.receipts") if receipts else ()))
        common = ("-A", "shop", "worker", "-c", "2", "-Q", queues, "--without-mingle", "--without-gossip")
        described = [
            Worker(name, f"{name}@%h", tuple(queues.split(",")), (*common, "-n", f"{name}@%h", *more)) for name in names
        ]
        variables = {
            **brokers.environment(self.address.url),
            "SHOP_LOG": str(self.folder / "log"),
            "SHOP_LATE": str(int(late)),
        }
        with LocalWorkers(described, variables, self.folder, self.zygote) as running:
            yield running

    def send(self, task: str = "shop.note", *args: object, **options: Any) -> str:
        """Publish a task as somebody else would."""
        return str(self.app.send_task(task, args, **{"queue": "one", **options}).id)

    def ran(self) -> list[str]:
        """The ids of the tasks that began, in that order."""
        log = self.folder / "log"
        return log.read_text().split() if log.exists() else []

    def depth(self, watch: Watch, queue: str) -> int:
        """How many messages wait in a queue."""
        with watch.connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)


@pytest.fixture
def shop(tmp_path: Path, waybill_vhost: Address, plain_zygote: Zygote) -> Iterator[Shop]:
    app = Celery("shop", broker=waybill_vhost.url, set_as_current=False)
    app.conf.broker_transport_options = {"confirm_publish": True}
    app.conf.task_queues = [Queue("one"), Queue("two"), Queue("again"), Queue("wait", queue_arguments=WAIT)]
    enable_receipts(app)
    yield Shop(app, waybill_vhost, write(tmp_path, SHOP), plain_zygote)
    app.close()


def told(watch: Watch, ids: list[str]) -> dict[str, int]:
    """Task id -> how often a worker received it, as the watch says."""
    return {one: len(found) for one, found in watch.receipts_of(ids).items()}


@pytest.mark.parametrize("late", [True, False], ids=["late acks", "early acks"])
@pytest.mark.parametrize("heir", ["one", "other"], ids=["restarted", "another takes over"])
def test_whoever_a_killed_worker_ran_is_told(shop: Shop, late: bool, heir: str) -> None:
    with shop.workers("one", late=late) as first, Watch(shop.app) as watch:
        watch.discover_workers(["one"], first.check_alive)
        ids = [shop.send("shop.note", 0.005) for _ in range(100)]
        until(lambda: len(shop.ran()) > 20)
        first.kill("one")
        with shop.workers(heir, late=late) as second:
            watch.discover_workers([heir], second.check_alive)
            received = told(watch, ids)
    ran = Counter(shop.ran())
    assert [one for one in ids if received[one] < ran[one]] == []
    assert [one for one in ids if not received[one]] == []


def test_what_a_worker_received_before_it_stopped_consuming_is_told(shop: Shop) -> None:
    with shop.workers("one", late=False) as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        ids = [shop.send() for _ in range(30)]
        until(lambda: len(shop.ran()) > 5)
        shop.app.control.cancel_consumer("one", reply=True, timeout=5, limit=1)
        until(lambda: len(shop.ran()) + shop.depth(watch, "one") >= len(ids))
        watch.discover_workers(["one"], workers.check_alive)
        received = told(watch, ids)
    assert [one for one in shop.ran() if not received[one]] == []


@pytest.mark.parametrize("which", ["events", "all"])
@pytest.mark.parametrize("when", ["before", "amid"])
def test_receipts_outlive_the_link_that_they_went_by(shop: Shop, which: str, when: str) -> None:
    with shop.workers("one") as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        ids = [shop.send("shop.note", 0.01) for _ in range(30 if when == "amid" else 0)]
        if when == "amid":
            until(lambda: len(shop.ran()) > 5)
        shop.app.control.broadcast("cut", arguments={"which": which})
        ids += [shop.send() for _ in range(30)]
        received = told(watch, ids)
    ran = Counter(shop.ran())
    assert [one for one in ids if received[one] < ran[one] or not received[one]] == []


def test_what_a_broken_link_had_swallowed_is_sent_again(shop: Shop) -> None:
    with shop.workers("one") as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        shop.app.control.broadcast("swallow", reply=True, timeout=5, limit=1)
        ids = [shop.send() for _ in range(20)]
        until(lambda: len(shop.ran()) == len(ids))
        shop.app.control.broadcast("choke", reply=True, timeout=5, limit=1)
        assert set(told(watch, ids).values()) == {1}


def test_a_worker_that_nobody_has_heard_yet_is_heard_later(shop: Shop) -> None:
    """The exchange of the events is declared by whoever comes first, and a worker without heartbeats may be that."""
    with shop.workers("one", more=("--without-heartbeat",)) as workers:
        ids = [shop.send() for _ in range(3)]
        until(lambda: len(shop.ran()) == len(ids))
        with shop.app.connection_for_read() as connection:
            connection.default_channel.exchange_declare("celeryev", "topic", passive=True)  # or 404
        with Watch(shop.app) as watch:
            watch.discover_workers(["one"], workers.check_alive)
            watch.publish("shop.note", queue="one")
            (delivery,) = watch.settle()
    assert delivery.by_worker == {"one": "one"}


def test_two_workers_of_one_name_are_refused(shop: Shop) -> None:
    """By the watch, or by Kombu 5.6 and later: then the second one ends."""
    with shop.workers("one") as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        with shop.workers("one") as others:

            def refusal() -> str | None:
                try:
                    watch.discover_workers(["one"], others.check_alive)
                    others.check_alive()
                except FleetError as error:
                    return str(error)
                return None

            assert re.search("2 workers have the name 'one@|worker 'one' ended with exit code 1", until(refusal))


def test_a_worker_without_receipts_is_named_at_once(shop: Shop) -> None:
    with (
        shop.workers("one", receipts=False) as workers,
        Watch(shop.app) as watch,
        pytest.raises(FleetError, match=r"no receipts from one@.*`-I waybill.receipts`"),
    ):
        watch.discover_workers(["one"], workers.check_alive)


def test_a_worker_that_comes_after_the_roll_call_is_heard(shop: Shop) -> None:
    with shop.workers("one") as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        with shop.workers("late"):
            until(lambda: watch._roll_call.consumers("one") == 2)
            ids = [shop.send("shop.note", 0.02) for _ in range(20)]
            assert set(told(watch, ids).values()) == {1}
            assert {worker.partition("@")[0] for worker in watch.consumers_by_worker} == {"one", "late"}


def test_what_running_tasks_cause_is_waited_for(shop: Shop) -> None:
    """However many messages a worker has ahead: a chain's links, retries, and a dead letter that waits."""
    with shop.workers("one", queues="one,two,again") as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        links = chain(*(shop.app.signature("shop.after", args=args, queue="two") for args in ((0,), (), ())))
        last = links.apply_async()
        ids = [last.parent.parent.id, last.parent.id, last.id]
        assert set(told(watch, ids).values()) == {1}
        assert set(told(watch, [shop.send("shop.flaky")]).values()) == {4}
        waiting = [shop.send("shop.note", queue="wait")]
        assert set(told(watch, waiting).values()) == {1}


def test_a_watch_that_loses_its_own_connection_says_so(shop: Shop) -> None:
    with shop.workers("one") as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        watch.publish("shop.note", queue="one")
        watch.connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(FleetError, match="the connection to the broker was lost while it was watched") as caught:
            watch.settle()
    assert "\n" not in str(caught.value)


def test_a_broker_that_ends_is_one_line(shop: Shop) -> None:
    with ExitStack() as stack, brokers.broker(brokers.EMBEDDED) as address:
        elsewhere = replace(shop, app=Celery("shop", broker=address.url, set_as_current=False), address=address)
        enable_receipts(elsewhere.app)
        workers = stack.enter_context(elsewhere.workers("one"))
        watch = stack.enter_context(Watch(elsewhere.app))
        watch.discover_workers(["one"], workers.check_alive)
        watch.publish("shop.note", queue="one")
        end = stack.pop_all()
    with end, pytest.raises(FleetError, match="the connection to the broker was lost while it was watched"):
        watch.settle()


def test_a_queue_with_a_missing_receipt_is_no_proof(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt that the broker lost: the next one's number tells."""
    with shop.workers("one") as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        watch.publish("shop.note", queue="one")
        watch.settle()
        is_new: Callable[[Any], bool] = watch._streams.is_new
        lost: list[Any] = []

        def losing(event: Any) -> bool:
            if event["name"] == "shop.note" and not lost:
                lost.append(event)
                return False
            return is_new(event)

        monkeypatch.setattr(watch._streams, "is_new", losing)
        watch.publish("shop.note", queue="one")
        with pytest.raises(FleetError, match=r"receipts were lost on their way \(1 of one@"):
            watch.settle()
        assert lost
        watch.publish("shop.note", queue="one")
        (delivery,) = watch.settle()
        assert delivery.by_worker == {"one": "one"}


def test_a_thrown_away_message_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "SETTLE_TIMEOUT", 20.0)
    with shop.workers("one") as workers, Watch(shop.app) as watch:
        watch.discover_workers(["one"], workers.check_alive)
        shop.app.control.revoke("revoked-one", reply=True, timeout=5, limit=1)
        watch.publish("shop.note", task_id="revoked-one", queue="one")
        watch.publish("shop.gone", queue="one")
        watch.publish("shop.after", (1,), serializer="yaml", queue="one")
        found = [[one.reason for one in delivery.received] for delivery in watch.settle()]
    assert found == [["revoked"], ["unknown task"], ["unreadable"]]


def test_a_limit_by_policy_is_asked_of_the_broker(shop: Shop) -> None:
    assert shop.address.management_url is not None
    limit = {"name": "short", "pattern": "^one$", "apply-to": "queues", "priority": 0, "definition": {"max-length": 1}}
    with shop.workers("one") as workers:
        with Management(shop.address.management_url, shop.address.vhost) as management:
            management.import_definitions({"policies": [limit]})
        with Watch(shop.app, management_url=shop.address.management_url) as watch:
            watch.discover_workers(["one"], workers.check_alive)
            watch.publish("shop.note", queue="one")
            with pytest.raises(FleetError, match="queue 'one' has x-max-length=1: a marker could push a message out"):
                watch.settle()
