"""Several applications of one vhost in check, explain, topology and diff: what each declares counts for all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from celery import Celery

from tests.support import check_example
from tests.support.programs import Result, call
from waybill import WaybillError, check_app, explain_task
from waybill.celery_app.apart import apart
from waybill.celery_app.neighbours import neighbours
from waybill.diff import declared_by
from waybill.errors import InputError

SHOP = """
from celery import Celery
from kombu import Exchange, Queue
app = Celery("{name}", broker="amqp://me:secret@127.0.0.1:1//")
app.conf.task_default_queue = "orders"
app.conf.task_queues = [
    Queue("orders", queue_arguments={{"x-dead-letter-exchange": "dead"}}),
]
@app.task(name="shop.order", acks_late=True, reject_on_worker_lost=True)
def order(): ...
def pay():
    app.send_task("billing.pay", exchange="money", exchange_type="topic", routing_key="money.eur")
    app.send_task("billing.refund", queue="refunds")
app.conf.broker_transport_options = {{"confirm_publish": True}}
"""
BILLING = """
from celery import Celery
from kombu import Exchange, Queue
app = Celery("{name}", broker="amqp://me:secret@127.0.0.1:1//")
app.conf.task_default_queue = "bills"
app.conf.task_queues = [
    Queue("bills"), Queue("refunds"), Queue("money", Exchange("money", "topic"), "money.#"),
    Queue("dead", Exchange("dead", "fanout"), "any"),
]
@app.task(name="billing.pay")
def pay(): ...
@app.task(name="billing.refund")
def refund(): ...
"""
FLEET = """
orders: celery -A {shop} worker -n orders@%h
bills: celery -A {billing} worker -n bills@%h
"""


class Two:
    """The two applications' names; `run` runs a command on both of them."""

    def __init__(self, folder: Path) -> None:
        self.shop, self.billing = f"shop_{folder.name}", f"billing_{folder.name}"
        self.folder = folder
        self.write(self.shop, SHOP)
        self.write(self.billing, BILLING)
        (folder / "Procfile").write_text(FLEET.format(shop=self.shop, billing=self.billing))

    def write(self, name: str, code: str) -> None:
        (self.folder / f"{name}.py").write_text(code.format(name=name))

    def run(self, *arguments: str) -> Result:
        return call("waybill.cli", "-A", self.shop, "-A", self.billing, *arguments)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Two:
    folder = tmp_path / tmp_path.name.replace("-", "_")
    folder.mkdir()
    check_example.isolate(monkeypatch, folder)
    check_example.forget_shared_tasks(monkeypatch)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return Two(folder)


def codes(shown: str) -> list[str]:
    return [finding["code"] for finding in json.loads(shown)["findings"]]


def test_alone_the_shop_misses_what_billing_declares(two: Two) -> None:
    alone = call("waybill.cli", "-A", two.shop, "check", "--json")
    assert codes(alone.out) == ["WB210"]


def test_together_nothing_is_missing(two: Two) -> None:
    shown = two.run("check")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("no findings; ")
    assert codes(two.run("check", "--fleet", "Procfile", "--json").out) == []


def test_a_fleet_that_runs_both_brings_the_second(two: Two) -> None:
    """With one -A, too, the application that a worker runs is loaded, and consumes its own queues without -Q."""
    assert codes(call("waybill.cli", "-A", two.shop, "check", "--fleet", "Procfile", "--json").out) == []


def test_what_one_of_them_gets_wrong_names_it(two: Two) -> None:
    two.write(two.billing, BILLING.replace('Queue("refunds")', 'Queue("refund")'))
    shown = two.run("check")
    assert shown.code == 1
    assert shown.out.startswith(f"WB111 error  billing.refund, refunds  {two.shop}.py:")
    assert f"  in {two.shop}\n" in shown.out
    assert json.loads(two.run("check", "--json").out)["findings"][0]["application"] == two.shop


def test_declarations_that_exclude_each_other(two: Two) -> None:
    two.write(two.billing, BILLING.replace('Queue("refunds")', 'Queue("orders", max_priority=9)'))
    shown = two.run("check", "--select", "WB204,WB203,WB202")
    assert shown.code == 1
    assert "406 inequivalent arg 'x-dead-letter-exchange' for queue 'orders' in vhost '/'" in shown.out
    assert two.run("topology").complaint.startswith("error: inequivalent arg 'x-")


def test_explain_goes_through_both(two: Two) -> None:
    money = ("--exchange", "money", "--routing-key", "money.eur")
    alone = call("waybill.cli", "-A", two.shop, "explain", "billing.pay", *money)
    assert "no exchange 'money'" in alone.complaint
    shown = two.run("explain", "billing.pay", *money, "--fleet", "Procfile")
    assert (shown.code, shown.err) == (0, "")
    assert f"{two.billing} registers it" in shown.out
    assert "✓ money  `money.#`" in shown.out
    assert "consumed by bills" in shown.out
    rejected = two.run("explain", "shop.order", "--fleet", "Procfile").out
    assert "when rejected: dead" in rejected


def test_a_dead_letter_exchange_that_no_worker_of_the_other_makes(two: Two) -> None:
    (two.folder / "Procfile").write_text(
        f"orders: celery -A {two.shop} worker -n orders@%h\nb: celery -A {two.billing} worker -n b@%h -X dead"
    )
    assert codes(two.run("check", "--fleet", "Procfile", "--json").out) == ["WB210"]
    assert "nobody declares `dead`" in two.run("explain", "shop.order", "--fleet", "Procfile").out


def test_topology_shows_both(two: Two) -> None:
    shown = json.loads(two.run("topology", "--json", "--fleet", "Procfile").out)
    workers = {queue["name"]: queue["workers"] for queue in shown["queues"]}
    bills = {name: ["bills"] for name in ("bills", "refunds", "money", "dead")}
    assert workers == {"orders": ["orders"], **bills}


def test_what_both_declare_is_compared(two: Two) -> None:
    (other,) = neighbours([two.billing], [two.folder])
    app = Celery("alone", broker="amqp://127.0.0.1:1//", set_as_current=False)
    names = [queue.name for queue in declared_by(app, None, [other]).queues]
    assert names == ["celery", "bills", "refunds", "money", "dead"]


def test_a_worker_of_an_application_that_is_not_known(two: Two) -> None:
    """Without -Q its queues are not those of the application at hand."""
    (two.folder / "Procfile").write_text("w: celery -A nosuch worker -n w@%h")
    shown = call("waybill.cli", "-A", two.shop, "explain", "shop.order", "--fleet", "Procfile")
    assert "consumed by" not in shown.out
    assert "it runs the application 'nosuch' without -Q" in shown.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("127.0.0.1:1//", "127.0.0.1:1/other"), "expected one broker and vhost for all"),
        (("from celery import Celery", "raise RuntimeError('no')"), "RuntimeError: no"),
    ],
)
def test_an_application_that_cannot_stand_beside_it(two: Two, change: tuple[str, str], said: str) -> None:
    two.write(two.billing, BILLING.replace(*change))
    for command in (("check",), ("explain", "shop.order"), ("topology",)):
        shown = two.run(*command)
        assert (shown.code, shown.out) == (2, ""), command
        assert said in shown.complaint
        assert "secret" not in shown.err


def test_declare_takes_one(two: Two) -> None:
    shown = two.run("declare")
    assert shown.code == 2
    assert f"this command takes one application, got {two.shop}, {two.billing}" in shown.complaint


def test_the_configuration_names_both(two: Two) -> None:
    (two.folder / "pyproject.toml").write_text(f"[tool.waybill]\napp = ['{two.shop}', '{two.billing}']\n")
    assert call("waybill.cli", "check").out.startswith("no findings; ")


def test_the_public_functions_take_others(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(two.folder)
    app = __import__(two.shop).app
    assert check_app(app, others=[two.billing]).findings == ()
    pay = {"exchange": "money", "exchange_type": "topic", "routing_key": "money.eur"}
    assert explain_task(app, "billing.pay", pay, others=[two.billing]).trace.queues == ("money",)


def fail() -> None:
    """Fails as an application may."""
    raise WaybillError("one line")


def test_an_error_in_another_process_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^one line$"):
        apart(fail)
