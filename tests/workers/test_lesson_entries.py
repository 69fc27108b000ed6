"""Two ways to make the application and three to start its worker: each works, and all have the same settings."""

from __future__ import annotations

import pytest

from tests.support.programs import Result, call
from waybill.delivery import Watch
from waybill.provision import Address
from waybill.receipts import Receipt

pytestmark = pytest.mark.waybill_workers("standalone")

# Entry point -> the worker that it starts
ENTRIES = {
    "celery -A worker worker": "by_command",
    "python -m worker": "by_module",
    "celery -A worker.standalone worker": "standalone",
}


@pytest.fixture(scope="module")
def played(waybill_vhost: Address, waybill_watch: Watch) -> tuple[Result, tuple[Receipt, ...]]:
    """The lesson, and every receipt as this test's own watch saw it."""
    assert waybill_watch.crew
    result = call("publishers.entries", "--broker", waybill_vhost.url, "--json")
    return result, waybill_watch.everything()


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


def test_the_lessons_workers_are_gone(played: tuple[Result, tuple[Receipt, ...]], waybill_watch: Watch) -> None:
    assert played
    assert {worker.partition("@")[0] for worker in waybill_watch.roll_call()} == {"standalone"}
