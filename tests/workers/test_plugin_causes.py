"""What a task causes: chains, retries and dead letters are seen, however many messages a worker has ahead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pytest_runs import run_pytest, write
from waybill.testing.brokers import Address

PROJECT = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        waybill_app = "shop:app"
        waybill_fleet = "Procfile"
    """,
    # The default prefetch: four messages for each process.
    "Procfile": """
        one: celery -A shop worker -n one@%h -Q one,again -c 2
        two: celery -A shop worker -n two@%h -Q two -c 2
    """,
    "shop.py": """
        import time
        from celery import Celery
        from celery.exceptions import Reject
        from kombu import Queue

        wait = {"x-message-ttl": 700, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "again"}
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"}

        app = Celery("shop", broker="amqp://nobody@127.0.0.1:1//", backend="cache+memory://")
        app.conf.update(
            task_queues=[
                Queue("one", queue_arguments=dead), Queue("two"), Queue("wait", queue_arguments=wait), Queue("again")
            ],
            task_default_queue="one",
        )

        @app.task
        def first():
            time.sleep(0.4)

        @app.task(queue="two")
        def second(_=None):
            time.sleep(0.4)

        @app.task(bind=True, max_retries=3)
        def flaky(self):
            time.sleep(0.2)
            if self.request.retries < 3:
                raise self.retry(countdown=0)

        @app.task(acks_late=True)
        def broken():
            time.sleep(0.2)
            raise Reject("broken", requeue=False)
    """,
    "test_shop.py": """
        import time
        import pytest, shop

        @pytest.fixture(autouse=True, scope="module")
        def declared(waybill_app):
            with waybill_app.connection_for_write() as connection:
                waybill_app.amqp.queues["wait"](connection.default_channel).declare()

        RUNS = pytest.mark.waybill(run=True)

        @RUNS
        def test_a_chain(waybill_watch):
            (shop.first.s() | shop.second.s() | shop.second.s()).delay()
            assert waybill_watch.received == {"shop.first": {"one"}, "shop.second": {"two"}}
            assert len([one for one in waybill_watch._seen.receipts if one.task == "shop.second"]) == 2

        @RUNS
        def test_retries(waybill_watch):
            with waybill_watch.recording() as sent:
                shop.flaky.delay()
            (delivery,) = waybill_watch.settle()
            assert len(delivery.received) == 4
            assert waybill_watch.retried == {"shop.flaky": {"one"}}

        @RUNS
        def test_a_dead_letter_that_waits(waybill_watch):
            shop.broken.delay()
            assert waybill_watch.rejected == {"shop.broken": {"one", "again"}}
            assert waybill_watch.received == {"shop.broken": {"one", "again"}}
            assert waybill_watch.expired == {"shop.broken": {"wait"}}

        def test_a_dead_letter_that_waits_where_nothing_runs(waybill_watch):
            waybill_watch.reject(shop.broken)
            shop.broken.delay()
            assert waybill_watch.received == {"shop.broken": {"one", "again"}}
            assert waybill_watch.expired == {"shop.broken": {"wait"}}

        def test_whoever_is_away_for_long_misses_nothing(waybill_watch):
            shop.first.delay()
            time.sleep(6)
            assert waybill_watch.received == {"shop.first": {"one"}}
    """,
}


KILLED = {
    "shop.py": """
        import os, time
        from celery import Celery
        from kombu import Queue

        app = Celery("shop", broker="amqp://nobody@127.0.0.1:1//")
        app.conf.update(task_queues=[Queue("one")], task_default_queue="one", task_acks_late=True)

        @app.task(bind=True)
        def note(self):
            with open(os.path.join(os.path.dirname(__file__), "ran"), "a") as log:
                log.write(f"{self.request.id}\\n")
            time.sleep(0.01)
    """,
    "Procfile": "one: celery -A shop worker -n one@%h -Q one -c 2",
    "test_shop.py": """
        import time
        from pathlib import Path
        import pytest, shop

        @pytest.mark.waybill(run=True)
        def test_it(waybill_watch, waybill_workers):
            with waybill_watch.recording() as sent:
                for _ in range(100):
                    shop.note.delay()
            log = Path(__file__).with_name("ran")
            while not log.exists() or len(log.read_text().splitlines()) < 20:
                time.sleep(0.001)
            waybill_workers.kill("one")
            waybill_workers.start(waybill_workers.workers[0])
            waybill_watch.discover_workers(["one"], waybill_workers.check_alive)
            told = {one.publication.task_id for one in waybill_watch.settle() if one.received}
            assert told == {one.task_id for one in sent}
            assert set(log.read_text().split()) <= told
    """,
}


def test_a_worker_that_is_killed_has_told_what_it_received(tmp_path: Path, waybill_broker: Address) -> None:
    done = run_pytest(write(tmp_path, {**PROJECT, **KILLED}), at=waybill_broker)
    assert done.counts == {"passed": 1}, done.text


def test_what_tasks_cause_is_seen(tmp_path: Path, waybill_broker: Address) -> None:
    done = run_pytest(write(tmp_path, PROJECT), at=waybill_broker)
    assert done.counts == {"passed": 5}, done.text


@pytest.mark.parametrize("mark", ["waybill(workers={'one': ['one', 'again']})", "waybill_workers('one', 'again')"])
def test_a_delaying_queue_has_no_receiver_where_the_mark_names_none(tmp_path: Path, mark: str) -> None:
    test = f"""
        import pytest, shop

        @pytest.mark.{mark}
        def test_it(waybill_watch):
            waybill_watch.reject(shop.broken)
            shop.broken.delay()
            assert waybill_watch.received == {{"shop.broken": {{"one", "again"}}}}
    """
    configuration = PROJECT["pyproject.toml"].replace('waybill_fleet = "Procfile"', "")
    done = run_pytest(write(tmp_path, {**PROJECT, "pyproject.toml": configuration, "test_shop.py": test}))
    assert done.counts == {"passed": 1}, done.text
