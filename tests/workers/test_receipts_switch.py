"""Receipts that a worker sends without a change of its application: by `-I waybill.receipts`, or a variable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery

from tests.support.pytest_runs import write
from waybill import Watch, enable_receipts
from waybill.celery_app.fleet.workers import Worker
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.workers import LocalWorkers, Zygote

BARE = {
    "bare.py": """
        from celery import Celery

        app = Celery("bare")

        @app.task
        def noop(): ...
    """
}
COMMAND = ("-A", "bare", "worker", "-n", "one@%h", "-Q", "celery", "-P", "solo")


@pytest.mark.parametrize(
    ("more", "variables"),
    [(("-I", "waybill.receipts"), {}), ((), {"CELERY_WORKER_INCLUDE": "waybill.receipts"})],
    ids=["option", "variable"],
)
def test_a_worker_sends_receipts_and_its_application_is_unchanged(
    tmp_path: Path, waybill_vhost: Address, plain_zygote: Zygote, more: tuple[str, ...], variables: dict[str, str]
) -> None:
    worker = Worker("one", "one@%h", ("celery",), (*COMMAND, *more))
    environment = {**brokers.environment(waybill_vhost.url), **variables}
    publisher = Celery("bare", broker=waybill_vhost.url, set_as_current=False)
    enable_receipts(publisher)
    with (
        LocalWorkers([worker], environment, write(tmp_path, BARE), plain_zygote) as workers,
        Watch(publisher) as watch,
    ):
        watch.discover_workers(["one"], workers.check_alive)
        watch.publish("bare.noop")
        (delivery,) = watch.settle()
        assert delivery.by_worker == {"one": "celery"}


def test_it_imports_celery_and_kombu_only() -> None:
    code = (
        "import sys, waybill.receipts; "
        "print([name for name in sys.modules if name.partition('.')[0] in ('pamqp', 'httpx', 'rich', 'pytest')], "
        "sorted(name for name in sys.modules if name.startswith('waybill.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = ["celery_app", "celery_app.names", "celery_app.private", "receipts", "testing", "testing.receipts"]
    assert done.stdout == f"[] {[f'waybill.{name}' for name in expected]}\n"
