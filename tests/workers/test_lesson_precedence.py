"""Who decides where a task goes: Celery's answers, real workers beside them, and the document that is made of them."""

from __future__ import annotations

from typing import Any

import pytest

from publishers import precedence
from publishers.stage import Stage
from tests.support.lessons import RANKS
from tests.support.programs import call
from waybill.delivery import Watch
from waybill.fleet import Fleet
from waybill.provision import Address

pytestmark = pytest.mark.waybill_workers("default", "both", "videos", "batch", "orders", "standalone", "clerk")


@pytest.fixture(scope="module")
def lines(waybill_vhost: Address, waybill_watch: Watch) -> list[dict[str, Any]]:
    """What the lesson said, on running workers."""
    assert waybill_watch.crew
    result = call("publishers.precedence", "--broker", waybill_vhost.url, "--json")
    assert (result.code, result.err) == (0, "")
    return result.objects


def test_the_publishers_choice_is_where_it_runs(
    lines: list[dict[str, Any]], waybill_watch: Watch, waybill_fleet: Fleet
) -> None:
    sent = lines[: len(RANKS)]
    received = waybill_watch.receipts_of(line["task_id"] for line in sent)
    found = [[(one.queue, one.worker_name) for one in received[line["task_id"]]] for line in sent]
    assert found == [[(queue, worker)] for _, queue, worker in RANKS]
    assert [waybill_fleet.consumers(queue) for _, queue, _ in RANKS] == [(worker,) for _, _, worker in RANKS]


def test_the_consumers_choice_is_where_it_runs(lines: list[dict[str, Any]], waybill_watch: Watch) -> None:
    handed = lines[len(RANKS) :]
    assert [line["happened"] for line in handed] == ["clerk (cleanup)", "default (cleanup)"]
    received = waybill_watch.receipts_of(line["task_id"] for line in handed)
    assert [[one.worker_name for one in received[line["task_id"]]] for line in handed] == [["clerk"], ["default"]]


def test_the_workers_consume_what_they_did_before(
    lines: list[dict[str, Any]], waybill_watch: Watch, waybill_fleet: Fleet
) -> None:
    assert lines
    crew = waybill_watch.roll_call([worker.name for worker in waybill_fleet])
    found = {worker.partition("@")[0]: set(queues) for worker, queues in crew.items()}
    assert {name for name, queues in found.items() if "cleanup" in queues} == {"clerk"}
    assert all(set(worker.queues) - {"announcements"} <= found[worker.name] for worker in waybill_fleet)


def test_no_message_is_left_to_the_next_lesson(waybill_watch: Watch) -> None:
    stage = Stage(waybill_watch, missing_types=set(), is_json=True)
    precedence.lesson(stage)
    assert (stage.show(), stage.surprises) == ((), [])
