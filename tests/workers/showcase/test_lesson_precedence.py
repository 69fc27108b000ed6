"""Who decides where a task goes: Celery's answers, real workers beside them, and the document that is made of them."""

from __future__ import annotations

import pytest

from publishers.celery import precedence
from publishers.support.stage import Stage
from tests.support.lessons import RANKS
from tests.support.showcase import Lessons, Played, Showcase, state_of
from waybill.celery_app.fleet.workers import Fleet
from waybill.testing.watch import Watch


@pytest.fixture
def played(lessons: Lessons) -> Played:
    return lessons["precedence"]


def test_the_publishers_choice_is_where_it_runs(played: Played, waybill_fleet: Fleet) -> None:
    sent = played.lines[: len(RANKS)]
    received = played.receipts_of(line["task_id"] for line in sent)
    found = [[(one.queue, one.worker_name) for one in received[line["task_id"]]] for line in sent]
    assert found == [[(queue, worker)] for _, queue, worker in RANKS]
    assert [waybill_fleet.consumers(queue) for _, queue, _ in RANKS] == [(worker,) for _, _, worker in RANKS]


def test_the_consumers_choice_is_where_it_runs(played: Played) -> None:
    handed = played.lines[len(RANKS) :]
    assert [line["happened"] for line in handed] == ["clerk (cleanup)", "default (cleanup)"]
    received = played.receipts_of(line["task_id"] for line in handed)
    assert [[one.worker_name for one in received[line["task_id"]]] for line in handed] == [["clerk"], ["default"]]


def test_the_workers_consume_what_they_did_before(played: Played, showcase: Showcase, waybill_watch: Watch) -> None:
    assert played.lines
    assert state_of(waybill_watch) == showcase.state


def test_no_message_is_left_to_the_next_lesson(waybill_watch: Watch) -> None:
    stage = Stage(waybill_watch, missing_types=set(), is_json=True)
    precedence.lesson(stage)
    assert (stage.show(), stage.surprises) == ((), [])
