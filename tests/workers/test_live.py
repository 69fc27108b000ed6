"""`waybill live` with workers of its own: each message is shown with the worker that was given it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import httpx

from tests.support.programs import PATIENCE, ROOT, processes_with, until

FOLDER = ROOT / "examples" / "topic"


def get(url: str) -> Any:
    return httpx.get(url, verify=False, timeout=PATIENCE).json()


def test_the_fleet_is_started_and_named() -> None:
    options = ("-A", "tasks", "live", "--fleet", "Procfile", "--port", "0")
    command = [sys.executable, "-m", "waybill", *options]
    with subprocess.Popen(command, cwd=FOLDER, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            broker = process.stderr.readline().split()[1].replace("amqp://", "amqp://guest:guest@") + "%2F"
            workers = process.stderr.readline().split(maxsplit=1)[1].strip().split(", ")
            url = process.stderr.readline().split()[1]
            process.stderr.readline()

            def shown() -> set[str]:
                nodes = get(f"{url}api/map")["nodes"]
                return {node["name"].partition("@")[0] for node in nodes if node["about"] == "Celery worker"}

            until(lambda: shown() == set(workers))
            variables = {**os.environ, "CELERY_BROKER_URL": broker}
            subprocess.run([sys.executable, "publish.py"], cwd=FOLDER, env=variables, check=True, capture_output=True)
            row = get(f"{url}api/wait?state=delivered&timeout={PATIENCE}")
            assert row["predicted"] == row["queues"]
            assert {worker.partition("@")[0] for worker in row["workers"]} == set(row["queues"])
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert list(processes_with("CELERY_BROKER_URL", broker)) == []
