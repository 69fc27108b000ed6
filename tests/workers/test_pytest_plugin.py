"""The fixtures as another project would use them, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Nobody listens there, so no Docker engine answers.
NO_DOCKER = {"DOCKER_HOST": "tcp://127.0.0.1:1"}

PROJECT = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        waybill_app = "proj"
        waybill_fleet = "Procfile"
    """,
    "Procfile": "math: celery -A proj worker -n math@%h -Q math -c 1 -P threads --without-mingle --without-gossip",
    "proj.py": """
        from celery import Celery
        from kombu import Queue
        from waybill import enable_receipts

        app = Celery("proj", broker="amqp://nobody@127.0.0.1:1//")
        app.conf.update(task_queues=[Queue("math")], task_default_queue="math", task_create_missing_queues=False)
        enable_receipts(app)

        @app.task
        def add(x, y):
            return x + y
    """,
    "test_proj.py": """
        def test_add(waybill_watch):
            waybill_watch.publish("proj.add", (2, 2))
            (delivery,) = waybill_watch.settle()
            assert delivery.by_worker == {"math": "math"}
    """,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        lines = text.splitlines()
        (tmp_path / name).write_text("\n".join(line.removeprefix("        ") for line in lines) + "\n")
    return tmp_path


def run_pytest(project: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WAYBILL_", "BROKER"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsE", "-p", "no:cacheprovider"],
        cwd=project,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def test_another_project(project: Path) -> None:
    assert "1 passed" in run_pytest(project)


# Each of them alone decides where Celery publishes, or where it reads: one that was heeded would let the test fail.
TOLD = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")


def test_celery_is_told_another_broker(project: Path) -> None:
    assert "1 passed" in run_pytest(project, **dict.fromkeys(TOLD, "amqp://nobody@127.0.0.1:1//"))


def test_without_docker_the_tests_are_skipped_with_a_reason(project: Path) -> None:
    shown = run_pytest(project, BROKER="docker", **NO_DOCKER)
    assert "1 skipped" in shown
    assert "no broker in a container" in shown


def test_without_docker_the_tests_fail_where_it_is_required(project: Path) -> None:
    shown = run_pytest(project, BROKER="docker", WAYBILL_REQUIRE_DOCKER="1", **NO_DOCKER)
    assert "1 error" in shown
    assert "no broker in a container" in shown
