"""The plugin as another project would use it, in a pytest of its own: receivers, fleets, marks and failures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.pytest_runs import run_pytest, write
from waybill.testing.brokers import Address

# Nobody listens there, so no Docker engine answers.
NO_DOCKER = {"DOCKER_HOST": "tcp://127.0.0.1:1"}

# A task that runs leaves a file, and a result backend that nobody answers for would fail each call.
SHOP = """
    import os
    from celery import Celery
    from kombu import Exchange, Queue

    news = Exchange("news", type="topic")
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}

    app = Celery("shop", broker="amqp://nobody@127.0.0.1:1//", backend="redis://127.0.0.1:1/0")
    app.conf.update(
        task_default_queue="mails",
        task_queues=[
            Queue("mails"),
            Queue("usa_all", news, routing_key="usa.#"),
            Queue("all_news", news, routing_key="*.news"),
            Queue("payments", queue_arguments=dead),
            Queue("dead"),
            Queue("short", queue_arguments={"x-max-length": 1, "x-message-ttl": 1000}),
        ],
    )

    def run(name):
        open(os.path.join(os.path.dirname(__file__), f"ran-{name}"), "w").close()

    @app.task
    def report(headline=""):
        run("report")

    @app.task
    def remind(customer):
        run("remind")

    @app.task(queue="payments", acks_late=True)
    def pay(*args):
        run("pay")

    def order(customer):
        remind.apply_async((customer,), countdown=3600)
"""

PLAIN = {
    "shop.py": SHOP,
    "pyproject.toml": """
        [tool.pytest.ini_options]
        waybill_app = "shop:app"
    """,
    "test_shop.py": """
        import pytest, shop
        from pathlib import Path

        NEWS = {"exchange": "news", "routing_key": "usa.news"}

        def test_publish(waybill_watch):
            waybill_watch.publish("shop.report", ("headline",), **NEWS)
            (delivery,) = waybill_watch.settle()
            assert delivery.queues == {"usa_all", "all_news"}
            assert delivery.by_worker == {"usa_all": "usa_all", "all_news": "all_news"}
            assert delivery.by_queue == {"usa_all": "usa_all", "all_news": "all_news"}
            assert not delivery.returned

        def test_recording(waybill_watch):
            with waybill_watch.recording() as sent:
                shop.order("ada")
                shop.report.apply_async(exchange="news", routing_key="eu.weather")
            assert [one.task for one in sent] == ["shop.remind", "shop.report"]
            reminder, lost = waybill_watch.settle()
            assert reminder.queues == {"mails"}
            assert lost.returned and lost.queues == set()
            assert waybill_watch.received == {"shop.remind": {"mails"}}
            assert waybill_watch.unroutable == {"shop.report"}

        def test_nothing_is_left_of_the_test_before(waybill_watch):
            assert waybill_watch.sent == ()
            assert waybill_watch.received == {}

        def test_a_reject_becomes_a_dead_letter(waybill_watch):
            waybill_watch.reject("shop.pay")
            shop.pay.delay()
            assert waybill_watch.received == {"shop.pay": {"payments", "dead"}}
            assert waybill_watch.rejected == {"shop.pay": {"payments"}}
            assert waybill_watch.dead_lettered == {"shop.pay": {"dead"}}

        def test_a_reject_of_a_task_that_is_acknowledged_early_reaches_no_broker(waybill_watch):
            waybill_watch.reject(shop.report)
            shop.report.delay()
            assert waybill_watch.rejected == {}
            assert waybill_watch.received == {"shop.report": {"mails"}}

        def test_a_retry_and_a_failure(waybill_watch):
            waybill_watch.retry(shop.pay, times=2)
            waybill_watch.fail(shop.report)
            shop.pay.delay()
            shop.report.delay()
            assert waybill_watch.retried == {"shop.pay": {"payments"}}
            assert waybill_watch.failed == {"shop.report": {"mails"}}
            sent = waybill_watch.sent
            assert [one.task for one in sent] == ["shop.pay", "shop.report"]
            assert len(waybill_watch.received_so_far(sent[0].task_id)) == 3

        def test_a_chain_goes_on_where_a_task_succeeds(waybill_watch):
            waybill_watch.succeed(shop.remind, "done")
            (shop.remind.s("ada") | shop.pay.s()).delay()
            assert waybill_watch.received == {"shop.remind": {"mails"}, "shop.pay": {"payments"}}

        def test_what_has_expired_is_thrown_away(waybill_watch):
            shop.report.apply_async(headers={"expires": "2000-01-01T00:00:00+00:00"})
            assert waybill_watch.expired == {"shop.report": {"mails"}}
            assert waybill_watch.received == {}

        def test_a_queue_with_limits(waybill_watch):
            for _ in range(5):
                shop.report.apply_async(queue="short")
            assert waybill_watch.received == {"shop.report": {"short"}}

        def test_a_queue_that_nobody_declares(waybill_watch):
            shop.app.send_task("elsewhere.index", queue="elsewhere")
            assert waybill_watch.received == {"elsewhere.index": {"elsewhere"}}

        @pytest.mark.waybill_workers("usa_all")
        def test_a_mark_of_its_own(waybill_watch):
            waybill_watch.publish("shop.report", ("headline",), **NEWS)
            (delivery,) = waybill_watch.settle()
            assert delivery.queues == {"usa_all"}

        @pytest.mark.waybill(workers={"both": ["usa_all", "all_news"]})
        def test_one_receiver_of_two_queues(waybill_watch):
            waybill_watch.publish("shop.report", ("headline",), **NEWS)
            (delivery,) = waybill_watch.settle()
            assert delivery.by_worker == {"both": {"usa_all", "all_news"}}
            assert delivery.by_queue == {"usa_all": "both", "all_news": "both"}

        def test_nothing_ran():
            assert not list(Path(__file__).parent.glob("ran-*"))
    """,
}

FLEET = {
    "shop.py": SHOP.replace("redis://127.0.0.1:1/0", "cache+memory://"),
    "pyproject.toml": """
        [tool.pytest.ini_options]
        waybill_app = "shop:app"
        waybill_fleet = "Procfile"
    """,
    "Procfile": """
        web: gunicorn shop
        mails: celery -A shop worker -Q mails --pidfile=never.pid --logfile=never.log
        news: celery -A shop worker -n news@%h -Q usa_all,all_news -c 4 -B -s never
        pay: celery -A shop worker -n pay@%h -Q payments,dead --autoscale=4,2
    """,
    "test_shop.py": """
        import pytest, shop
        from pathlib import Path

        def ran():
            return {path.name for path in Path(__file__).parent.glob("ran-*")}

        def test_the_fleet(waybill_watch):
            waybill_watch.publish("shop.report", ("headline",), exchange="news", routing_key="usa.news")
            waybill_watch.publish("shop.remind", ("ada",), countdown=3600)
            news, mail = waybill_watch.settle()
            assert news.by_worker == {"news": {"usa_all", "all_news"}}
            assert mail.by_worker == {"celery": "mails"}

        def test_ends_that_are_stated(waybill_watch):
            waybill_watch.reject("shop.pay")
            waybill_watch.retry("shop.remind")
            shop.pay.delay()
            shop.remind.delay("ada")
            assert waybill_watch.received == {"shop.pay": {"payments", "dead"}, "shop.remind": {"mails"}}
            assert waybill_watch.dead_lettered == {"shop.pay": {"dead"}}
            assert waybill_watch.retried == {"shop.remind": {"mails"}}

        def test_a_task_that_is_not_registered(waybill_watch):
            waybill_watch.publish("shop.nosuch")
            assert waybill_watch.discarded == {"shop.nosuch": {"mails"}}
            (delivery,) = waybill_watch.settle()
            with pytest.raises(ValueError, match="celery .mails. threw shop.nosuch away .it has no such task."):
                delivery.by_worker

        def test_an_expired_task(waybill_watch):
            shop.report.apply_async(headers={"expires": "2000-01-01T00:00:00+00:00"})
            assert waybill_watch.expired == {"shop.report": {"mails"}}
            assert waybill_watch.received == {}

        def test_nothing_ran(waybill_watch):
            assert ran() == set()

        @pytest.mark.waybill(run=True)
        @pytest.mark.waybill_workers("celery")
        def test_run(waybill_watch):
            shop.report.delay()
            assert waybill_watch.received == {"shop.report": {"mails"}}
            while not ran():
                waybill_watch.settle()
            assert not list(Path(__file__).parent.glob("never*"))
    """,
}


@pytest.mark.parametrize("project", [PLAIN, FLEET], ids=["receivers", "fleet"])
def test_a_project(tmp_path: Path, waybill_broker: Address, project: dict[str, str]) -> None:
    done = run_pytest(write(tmp_path, project), at=waybill_broker)
    assert done.counts == {"passed": project["test_shop.py"].count("def test_")}, done.text


# Each of them alone decides where Celery publishes, or where it reads: one that was heeded would let the test fail.
TOLD = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")

ONE = """
    import shop

    def test_it(waybill_watch):
        shop.report.delay()
        assert waybill_watch.received == {"shop.report": {"mails"}}
"""


@pytest.mark.parametrize("project", [PLAIN, FLEET], ids=["receivers", "fleet"])
def test_celery_is_told_another_broker(tmp_path: Path, project: dict[str, str]) -> None:
    told = {**dict.fromkeys(TOLD, "amqp://nobody@127.0.0.1:1//"), "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/0"}
    done = run_pytest(write(tmp_path, {**project, "test_shop.py": ONE}), environment=told)
    assert done.counts == {"passed": 1}, done.text


def test_a_failing_assertion_says_why(tmp_path: Path) -> None:
    test = """
        import shop

        def test_it(waybill_watch):
            shop.report.apply_async(exchange="news", routing_key="usa.weather")
            assert waybill_watch.received == {"shop.report": {"all_news", "mials", "mails"}}
    """
    done = run_pytest(write(tmp_path, {**PLAIN, "test_shop.py": test}))
    assert done.counts == {"failed": 1}
    for line in (
        "missing: shop.report from all_news: `*.news` of news: second word is `weather`, the binding wants `news`",
        "missing: shop.report from mails: no binding leads there from news",
        "missing: shop.report from mials: the application declares no such queue; did you mean `mails`?",
        "not expected: shop.report from usa_all: `usa.#` of news: `#` takes `weather`",
        "shop.report was published with the routing key `usa.weather`:",
        "├── ✓ usa_all  `usa.#`  `#` takes `weather`",
        "└── ✗ all_news  `*.news`  second word is `weather`, the binding wants `news`",
    ):
        assert f"E         {line}" in done.text, done.text


def test_a_failing_assertion_about_dead_letters_and_delays(tmp_path: Path) -> None:
    test = """
        import pytest, shop

        def test_early(waybill_watch):
            waybill_watch.reject(shop.report)
            shop.report.apply_async(queue="payments")
            assert waybill_watch.received == {"shop.report": {"payments", "dead"}}

        def test_nobody(waybill_watch):
            shop.report.delay()
            assert waybill_watch.received == {"shop.remind": {"mails"}}

        @pytest.mark.waybill_workers("mails")
        def test_unconsumed(waybill_watch):
            waybill_watch.publish("shop.pay")
            (delivery,) = waybill_watch.settle()
            assert delivery.by_worker == {"mails": "payments"}
    """
    done = run_pytest(write(tmp_path, {**PLAIN, "test_shop.py": test}))
    assert done.counts == {"failed": 3}
    for line in (
        "missing: shop.report from dead: only dead letters of payments go there, and none was seen: a task that is",
        "missing: shop.remind from mails: this process published no such task",
        "not expected: shop.report from mails: `mails` of (default exchange)",
        "missing: mails from payments: it is routed there, and no worker of this test consumes it",
    ):
        assert f"E         {line}" in done.text, done.text


def test_an_empty_fleet_is_none(tmp_path: Path) -> None:
    configuration = PLAIN["pyproject.toml"].rstrip() + '\n        waybill_fleet = ""\n'
    done = run_pytest(write(tmp_path, {**PLAIN, "pyproject.toml": configuration, "test_shop.py": ONE}))
    assert done.counts == {"passed": 1}, done.text


def test_a_busy_worker_is_named_with_its_task_and_its_last_lines(tmp_path: Path) -> None:
    shop = """
        import time
        from celery import Celery

        app = Celery("shop")

        @app.task(acks_late=True)
        def nap():
            print("napping", flush=True)
            time.sleep(60)
    """
    procfile = "one: celery -A shop worker -n one@%h -c 1 --prefetch-multiplier=1"
    test = """
        import pytest, shop
        from waybill.testing import watch

        watch.SETTLE_TIMEOUT = 2.0

        @pytest.mark.waybill(run=True)
        def test_it(waybill_watch):
            shop.nap.delay()
            assert waybill_watch.received == {}
    """
    done = run_pytest(write(tmp_path, {**FLEET, "shop.py": shop, "Procfile": procfile, "test_shop.py": test}))
    assert done.counts == {"failed": 1}, done.text
    told = r"E +waybill.errors.WorkersSilent: no receipt within 2 s from one@\S+ .celery.: busy with `shop.nap`"
    assert re.search(told, done.text), done.text
    assert "last lines of worker one" in done.text
    assert "napping" in done.text
    assert "waybill/testing" not in done.text


EAGER = """
    import shop
    shop.app.conf.task_always_eager = True

    def test_it(waybill_watch):
        with waybill_watch.recording():
            shop.report.delay()
"""

# what is wrong -> files in place of the project's, arguments, and the sentence that is shown
REFUSED = {
    "a list in a mark": (
        {"test_shop.py": ONE.replace("def", 'import pytest\n    @pytest.mark.waybill_workers(["mails"])\n    def')},
        (),
        "waybill_workers(['mails']): expected names of workers; write waybill_workers('mails')",
    ),
    "a worker of no fleet": (
        {"test_shop.py": ONE.replace("def", 'import pytest\n    @pytest.mark.waybill_workers("mial")\n    def')},
        (),
        "No worker `mial`: no `waybill_fleet` is set, so there is a receiver for each queue: `mails`, `usa_all`",
    ),
    "no application": (
        {"pyproject.toml": "[tool.pytest.ini_options]", "test_shop.py": ONE},
        (),
        "no application: set `waybill_app`",
    ),
    "an application that fails": (
        {"shop.py": "import nosuchmodule", "test_shop.py": "def test_it(waybill_watch): ..."},
        (),
        "cannot load the application 'shop:app': ModuleNotFoundError: No module named 'nosuchmodule'",
    ),
    "a broker that is none": (
        {"test_shop.py": ONE},
        ("--waybill-broker", "nosuch"),
        "broker 'nosuch': expected `embedded`",
    ),
    "a broker that nobody is": (
        {"test_shop.py": ONE},
        ("--waybill-broker", "amqp://guest:secret@127.0.0.1:1//"),
        "no broker at",
    ),
    "an eager application": ({"test_shop.py": EAGER}, (), "task_always_eager is on: `.delay()` runs the task"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_one_sentence_without_our_frames(tmp_path: Path, what: str) -> None:
    files, arguments, sentence = REFUSED[what]
    done = run_pytest(write(tmp_path, {**PLAIN, **files}), *arguments)
    assert sentence in done.text, done.text
    assert "waybill/testing" not in done.text
    assert "waybill/pytest_plugin" not in done.text
    assert "secret" not in done.text
    assert done.counts in ({"error": 1}, {"failed": 1})


# what is wrong -> the Procfile, the test's mark, and the lines that are shown
FLEETS = {
    "a name that is the line's": (
        "mails: celery -A shop worker -Q mails",
        '"mails"',
        ["No worker `mails` in the fleet: it has no `-n`; its name is `celery`."],
    ),
    "another name than the line's": (
        "mails: celery -A shop worker -Q mails -n letters@%h",
        '"mails"',
        ["No worker `mails` in the fleet: its `-n` is `letters@%h`; its name is `letters`."],
    ),
    "a name that is misspelt": (
        "mails: celery -A shop worker -Q mails -n letters@%h",
        '"leters"',
        ["No worker `leters` in the fleet, which has `letters`. Did you mean `letters`?"],
    ),
    "a worker that ends": (
        "mails: celery -A nosuchapp worker -Q mails -n mails@%h",
        '"mails"',
        ["Worker `mails` ended with exit code 2. Its last lines:", "    Unable to load celery application."],
    ),
}


@pytest.mark.parametrize("what", FLEETS)
def test_a_fleet_that_cannot_be_had_is_one_paragraph(tmp_path: Path, what: str) -> None:
    procfile, mark, lines = FLEETS[what]
    test = f"""
        import pytest
        pytestmark = pytest.mark.waybill_workers({mark})
        def test_it(waybill_watch): ...
        def test_another(waybill_watch): ...
    """
    done = run_pytest(write(tmp_path, {**FLEET, "Procfile": procfile, "test_shop.py": test}))
    assert all(f"\n{line}" in done.text for line in lines), done.text
    assert done.text.count(f"\n{lines[-1]}\n") == 1 or len(lines) == 1
    assert "waybill/pytest_plugin" not in done.text


@pytest.mark.parametrize("names", [("--waybill-broker", "docker"), ()], ids=["option", "variable"])
def test_a_broker_that_was_asked_for_and_cannot_be_had_is_an_error(tmp_path: Path, names: tuple[str, ...]) -> None:
    environment = {**NO_DOCKER, **({} if names else {"BROKER": "docker"})}
    done = run_pytest(write(tmp_path, {**PLAIN, "test_shop.py": ONE}), *names, environment=environment)
    assert done.counts == {"error": 1}
    assert "no broker in a container" in done.text
