"""Two ways to make the application and three to start its worker: each works, and all have the same settings."""

from __future__ import annotations

import pytest
from celery import Celery

from tests.support.showcase import Lessons, Played
from waybill.celery_app.fleet.workers import Fleet
from waybill.testing.watch import Watch

# Entry point -> the worker that it starts
ENTRIES = {
    "celery -A worker worker": "by_command",
    "python -m worker": "by_module",
    "celery -A worker.standalone worker": "standalone",
}


@pytest.fixture
def played(lessons: Lessons) -> Played:
    return lessons["entries"]


def test_every_entry_point_starts_a_worker(played: Played, waybill_fleet: Fleet) -> None:
    lines = played.lines[: len(ENTRIES)]
    assert {line["what"]: line["worker"] for line in lines} == ENTRIES
    (task_id,) = {line["task_id"] for line in lines}
    found = played.receipts_of([task_id])[task_id]
    others = {worker.name for worker in waybill_fleet}
    assert sorted(one.worker_name for one in found) == sorted(others.union(ENTRIES.values()))
    assert {one.task for one in found} == {"worker.tasks.announce"}


def test_the_workers_tell_the_same_settings(played: Played) -> None:
    (line,) = (one for one in played.lines if one.get("what") == "settings of the 3")
    assert (line["happened"], line["differing"]) == ("the same", [])
    assert line["workers"] == sorted(ENTRIES.values())
    assert {"task_queues", "task_acks_late", "include", "task_default_queue"} <= set(line["settings"])


def test_the_standalone_worker_takes_its_queue(played: Played) -> None:
    *_, line = played.lines
    assert [(one["worker"].partition("@")[0], one["queue"]) for one in line["received"]] == [
        ("standalone", "standalone")
    ]


def test_the_lessons_workers_are_gone(played: Played, waybill_app: Celery, waybill_watch: Watch) -> None:
    assert played.lines
    with Watch(waybill_app) as watch:
        assert set(watch.discover_workers()) == set(waybill_watch.consumers_by_worker)
