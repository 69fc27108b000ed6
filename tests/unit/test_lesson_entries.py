"""Two entry points, one application: the same settings, tasks and queues."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.programs import ROOT
from waybill.celery_app.fleet.reading import read_fleet
from worker import celeryconfig

# In a process of its own: here the fixtures have pointed one of the two to another broker.
COMPARE = """
import json
from worker.app import app
from worker.standalone import app as other
one, two = (made.conf.table(with_defaults=True, censored=False) for made in (app, other))
missing = object()
print(json.dumps({
    "names": sorted(one.keys() | two.keys()),
    "differing": sorted(name for name in one.keys() | two.keys() if one.get(name, missing) != two.get(name, missing)),
    "is_one": app is other,
    "main": [app.main, other.main],
    "tasks": [sorted(app.tasks), sorted(other.tasks)],
    "queues": [list(app.amqp.queues), list(other.amqp.queues)],
}))
"""


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", COMPARE], cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_both_applications_have_the_same_effective_settings(compared: dict[str, Any]) -> None:
    assert not compared["is_one"]
    assert compared["differing"] == []
    # Ours, and Celery's defaults.
    assert {name for name in vars(celeryconfig) if name.islower() and not name.startswith("_")} <= set(
        compared["names"]
    )
    assert {"task_ignore_result", "worker_concurrency"} <= set(compared["names"])


@pytest.mark.parametrize("what", ["main", "tasks", "queues"])
def test_and_the_same_name_tasks_and_queues(compared: dict[str, Any], what: str) -> None:
    one, other = compared[what]
    assert one == other


def test_the_standalone_worker_is_a_service_of_its_own() -> None:
    (service,) = read_fleet(ROOT / "docker-compose.yml").named(["standalone"])
    assert (service.service, service.arguments[:3]) == ("standalone", ("-A", "worker.standalone", "worker"))
