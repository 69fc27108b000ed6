"""What is read of a worker's command is what the worker consumes: asked of real workers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from celery import Celery

from tests.support.programs import until
from waybill import Broker
from waybill.celery_app.fleet.reading import read_fleet
from waybill.testing import brokers
from waybill.testing.workers import LocalWorkers, Zygote

MODULE = """
from celery import Celery
from kombu import Queue

app = Celery("consuming")
app.conf.task_queues = [Queue("celery"), Queue("images"), Queue("videos")]
"""

# The options of one worker each.
OPTIONS = ("", "-Q images", "-Q 'images, videos'", "-X images", "-Q images,videos --exclude-queues=videos", "-Q new")


def test_a_worker_consumes_what_was_read(tmp_path: Path, plain_zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "consuming.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    app = import_module("consuming").app
    lines = [f"w{at}: celery -A consuming worker -P solo -n w{at}@%h {given}" for at, given in enumerate(OPTIONS)]
    (tmp_path / "Procfile").write_text("\n".join(lines))
    with Broker() as broker, brokers.use_broker(app, broker.url):
        fleet = read_fleet(tmp_path / "Procfile", app=app)
        with LocalWorkers(fleet, brokers.environment(broker.url), tmp_path, plain_zygote) as workers:
            found = until(lambda: told(app, len(OPTIONS), workers), "every worker's answer")
            workers.stop(0.0)
    assert found == {worker.name: set(worker.queues) for worker in fleet}


def told(app: Celery, count: int, workers: LocalWorkers) -> dict[str, set[str]] | None:
    workers.check_alive()
    answers = app.control.inspect(timeout=5, limit=count).active_queues() or {}
    if len(answers) < count:
        return None
    return {node.partition("@")[0]: {queue["name"] for queue in queues} for node, queues in answers.items()}


@pytest.mark.parametrize("unknown", ["-Q images --nosuch"])
def test_what_celery_refuses_is_not_read(tmp_path: Path, unknown: str) -> None:
    (tmp_path / "Procfile").write_text(f"w: celery -A consuming worker {unknown}")
    assert str(read_fleet(tmp_path / "Procfile", allow_duplicate_names=True).unread[0]).startswith(
        "w (celery: No such option"
    )
