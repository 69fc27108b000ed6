"""Tasks made of tasks: their results, and where each part ran."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, chord

from publishers.celery.canvas import UNLOCK, publications
from publishers.support import results
from tests.support.showcase import Lessons, Played
from waybill.errors import InputError
from waybill.testing.watch import Watch
from worker import tasks

DOUBLED = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
# The group is shared by both workers of the quick lane.
LANE = [("both", "quick"), ("quick", "quick")]
HOME, SLOW, CLERK = ("default", "default"), ("both", "slow"), ("clerk", "cleanup")

# What is published -> its result, how many tasks it is, and where these ran
CANVASES: dict[str, tuple[object, int, list[tuple[str, str]]]] = {
    "signature by task": (4, 1, [HOME]),
    "by name": (4, 1, [HOME]),
    "starmap": (DOUBLED, 1, [SLOW]),
    "map": ([3, 7], 1, [SLOW]),
    "chunks": ([DOUBLED[:5], DOUBLED[5:]], 2, [SLOW]),
    "link_error, errback(id)": ("ZeroDivisionError", 2, [CLERK, HOME]),
    "link_error, errback(request, ...)": ("ZeroDivisionError", 1, [HOME]),
    "group": (DOUBLED, 10, LANE),
    "chain": (16, 3, [SLOW, HOME]),
    "chord": (90, 11, [*LANE, HOME]),
}


@pytest.fixture
def played(lessons: Lessons) -> Played:
    return lessons["canvas"]


@pytest.fixture
def lines(played: Played) -> dict[str, dict[str, Any]]:
    """What the lesson said, by the part of the line before its colon."""
    return {line["what"].partition(":")[0]: line for line in played.lines}


@pytest.mark.parametrize(("what", "expected"), CANVASES.items())
def test_the_result_and_where_it_ran(
    lines: dict[str, dict[str, Any]],
    played: Played,
    what: str,
    expected: tuple[object, int, list[tuple[str, str]]],
) -> None:
    line = lines[what]
    received = played.receipts_of(line["ids"])
    ran = [one for receipts in received.values() for one in receipts]
    assert (line["returned"], len(ran), sorted({(one.worker_name, one.queue) for one in ran})) == (
        *expected[:2],
        sorted(expected[2]),
    )
    assert [one["id"] for one in line["tasks"]] == [one.task_id for one in ran]


def test_the_lesson_is_nothing_else(lines: dict[str, dict[str, Any]]) -> None:
    assert set(lines) == {*CANVASES, "the chord's wait"}


def test_each_link_of_the_chain_has_its_own_result(lines: dict[str, dict[str, Any]], waybill_app: Celery) -> None:
    assert [waybill_app.AsyncResult(one).result for one in lines["chain"]["ids"]] == [4, 8, 16]


def test_an_errback_with_one_argument_is_a_message_and_one_with_three_is_none(
    lines: dict[str, dict[str, Any]], played: Played
) -> None:
    (failed, published), (also_failed, called) = (
        lines[what]["ids"] for what in ("link_error, errback(id)", "link_error, errback(request, ...)")
    )
    received = played.receipts_of([failed, published, also_failed, called])
    assert [len(receipts) for receipts in received.values()] == [1, 1, 1, 0]
    assert received[published][0].task == "worker.canvas.tell_failure"


def test_who_waits_for_the_chord(lines: dict[str, dict[str, Any]], waybill_app: Celery) -> None:
    line = lines["the chord's wait"]
    polls = {(one["task"], one["worker"].partition("@")[0], one["queue"]) for one in line["tasks"]}
    # Redis counts the header's results; a folder can't.
    assert polls == (set() if waybill_app.backend.implements_incr else {(UNLOCK, *HOME)})


def test_the_poll_goes_to_the_queue_of_the_body(waybill_app: Celery, waybill_watch: Watch) -> None:
    if waybill_app.backend.implements_incr:
        pytest.skip("this result backend counts, and polls nothing")
    body = tasks.total.s().set(queue="cleanup")
    with publications(UNLOCK) as ids:
        result = chord([tasks.add.s(i, i) for i in range(2)], body).apply_async()
    assert results.outcome(result) == 2
    places = {(one.worker_name, one.queue) for one in waybill_watch.receipts_of(ids)[ids[0]]}
    assert (len(ids), places) == (1, {CLERK})


def test_no_backend_at_all_has_no_chords() -> None:
    with pytest.raises(InputError, match="can't do chords"):
        results.require_chords(Celery(set_as_current=False))
