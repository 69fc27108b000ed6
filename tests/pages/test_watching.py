"""Flower beside the fleet, as docker-compose.yml runs it: it sees the workers, their queues and what they do."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import yaml
from celery import Celery

from publishers.support.opening import COMPOSE
from tests.support.programs import ROOT
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch

pytestmark = pytest.mark.waybill_workers("videos", "usa")

# Seconds in which Flower has to see what happened.
FLOWER_TIMEOUT = 30.0


def command(port: int) -> list[str]:
    """Flower's command in the compose file, for this port on loopback, without the management API of the stack."""
    given = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["flower"]["command"]
    kept = [word for word in shlex.split(given) if not word.startswith(("--address", "--port", "--broker-api"))]
    return [sys.executable, "-m", *kept, "--address=127.0.0.1", f"--port={port}"]


@pytest.fixture
def flower(waybill_vhost: Address, waybill_watch: Watch) -> Iterator[httpx.Client]:
    """Flower's API."""
    assert waybill_watch.consumers_by_worker
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, **brokers.environment(waybill_vhost.url), "FLOWER_UNAUTHENTICATED_API": "true"}
    process = subprocess.Popen(command(port), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        process.terminate()
        process.wait(timeout=10)


def ask(flower: httpx.Client, path: str, is_it: Callable[[Any], bool]) -> Any:
    """What Flower answers as soon as that is it; it learns from events, some time after they happened."""
    deadline = monotonic() + FLOWER_TIMEOUT
    while monotonic() < deadline:
        try:
            answer = flower.get(path).json()
        except httpx.TransportError:  # it is starting
            answer = None
        if answer is not None and is_it(answer):
            return answer
        sleep(0.1)
    pytest.fail(f"{path}: not within {FLOWER_TIMEOUT:.0f} s")


def test_flower_sees_the_fleet(flower: httpx.Client, waybill_app: Celery, waybill_watch: Watch) -> None:
    workers = ask(
        flower, "/api/workers", lambda found: len(found) == 2 and all("active_queues" in one for one in found.values())
    )
    queues = {
        name.partition("@")[0]: {queue["name"] for queue in one["active_queues"]} for name, one in workers.items()
    }
    assert queues["videos"] >= {"videos", "encodings"}
    assert "usa_all" in queues["usa"]

    assert len(waybill_app.control.enable_events(reply=True, limit=2)) == 2
    sent = waybill_watch.publish("worker.tasks.encode", ("film",), exchange="media", routing_key="media.video")
    waybill_watch.settle()
    tasks = ask(flower, "/api/tasks", lambda found: found.get(sent.task_id, {}).get("state") == "SUCCESS")
    task = tasks[sent.task_id]
    assert (task["name"], task["worker"].partition("@")[0]) == ("worker.tasks.encode", "videos")
