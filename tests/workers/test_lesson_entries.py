"""Two ways to make the application and three to start its worker: each works, and all have the same settings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.programs import ROOT, Result, call
from waybill.delivery import Watch
from waybill.fleet import read_fleet
from waybill.provision import Address
from waybill.receipts import Receipt
from worker import celeryconfig

pytestmark = pytest.mark.waybill_workers("standalone")

# Entry point -> the worker that it starts
ENTRIES = {
    "celery -A worker worker": "by_command",
    "python -m worker": "by_module",
    "celery -A worker.standalone worker": "standalone",
}

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


@pytest.fixture(scope="module")
def played(waybill_vhost: Address, waybill_watch: Watch) -> tuple[Result, tuple[Receipt, ...]]:
    """The lesson, and every receipt as this test's own watch saw it."""
    assert waybill_watch.crew
    result = call("publishers.entries", "--broker", waybill_vhost.url, "--json")
    return result, waybill_watch.everything()


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


def test_every_entry_point_starts_a_worker(played: tuple[Result, tuple[Receipt, ...]]) -> None:
    result, received = played
    assert (result.code, result.err) == (0, "")
    lines = result.objects[: len(ENTRIES)]
    assert {line["what"]: line["worker"] for line in lines} == ENTRIES
    (task_id,) = {line["task_id"] for line in lines}
    found = [one for one in received if one.task_id == task_id]
    assert sorted(one.worker_name for one in found) == sorted(ENTRIES.values())
    assert {one.task for one in found} == {"worker.tasks.announce"}


def test_the_workers_tell_the_same_settings(played: tuple[Result, tuple[Receipt, ...]]) -> None:
    (line,) = (one for one in played[0].objects if one.get("what") == "settings of the 3")
    assert (line["happened"], line["differing"]) == ("the same", [])
    assert line["workers"] == sorted(ENTRIES.values())
    assert {"task_queues", "task_acks_late", "include", "task_default_queue"} <= set(line["settings"])


def test_the_standalone_worker_takes_its_queue(played: tuple[Result, tuple[Receipt, ...]]) -> None:
    *_, line = played[0].objects
    assert [(one["worker"].partition("@")[0], one["queue"]) for one in line["received"]] == [
        ("standalone", "standalone")
    ]


def test_the_standalone_worker_is_a_service_of_its_own() -> None:
    (service,) = read_fleet(ROOT / "docker-compose.yml").named(["standalone"])
    assert (service.service, service.arguments[:3]) == ("standalone", ("-A", "worker.standalone", "worker"))


def test_the_lessons_workers_are_gone(played: tuple[Result, tuple[Receipt, ...]], waybill_watch: Watch) -> None:
    assert played
    assert {worker.partition("@")[0] for worker in waybill_watch.roll_call()} == {"standalone"}
