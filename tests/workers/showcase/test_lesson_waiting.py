"""Waiting for a result or not: for how long the caller was blocked, and why a task must not wait."""

from __future__ import annotations

from typing import Any

import pytest

from publishers.celery.waiting import SECONDS
from tests.support.programs import call
from tests.support.showcase import Lessons
from waybill.testing.brokers import Address
from waybill.testing.receipts import Receipt
from waybill.testing.watch import Watch

WAIT, WORK_ON, PASS_ON = "wait: nap.delay(...).get()", "work until ready(), then get()", "pass on: link=add.s(1)"
REFUSED, INNER = "in a task: add.delay(2, 2).get()", "the sum, published before the refusal"
WITHOUT_REFUSAL = "refusal off: get(timeout=0.5)"
CHAIN, REPLACE = "instead: chain(add.s(6, 6), add.s(4))", "in a task: raise self.replace(chain(...))"


@pytest.fixture
def lines(lessons: Lessons) -> dict[str, dict[str, Any]]:
    """What the lesson said, by what was done."""
    return lessons["waiting"].by_what


@pytest.fixture
def received(lessons: Lessons) -> tuple[Receipt, ...]:
    """Every receipt, as another watch than the lesson's saw it."""
    return lessons["waiting"].received


def test_who_waits_is_blocked_for_as_long_as_the_task_takes(lines: dict[str, dict[str, Any]]) -> None:
    assert lines[WAIT]["returned"] == SECONDS
    assert lines[WAIT]["blocked"] > SECONDS / 2


def test_who_works_on_is_not(lines: dict[str, dict[str, Any]]) -> None:
    assert lines[WORK_ON]["returned"] == SECONDS
    assert lines[WORK_ON]["blocked"] < SECONDS / 2
    assert lines[WORK_ON]["steps"] > 0


def test_who_passes_on_asks_for_nothing(lines: dict[str, dict[str, Any]], received: tuple[Receipt, ...]) -> None:
    line = lines[PASS_ON]
    assert line["returned"] == SECONDS + 1
    (first,) = (one for one in received if one.task_id == line["linked_to"])
    (then,) = (one for one in received if one.task_id == line["task_id"])
    assert (first.worker_name, first.queue) == ("default", "default")
    assert (then.worker_name, then.queue) == ("clerk", "cleanup")


def test_a_wait_in_a_task_is_refused_after_the_publication(
    lines: dict[str, dict[str, Any]], received: tuple[Receipt, ...]
) -> None:
    assert lines[REFUSED]["happened"] == "RuntimeError: Never call result.get() within a task!"
    assert lines[INNER]["happened"] == "4 · default (default)"
    (inner,) = (one for one in received if one.task_id == lines[INNER]["task_id"])
    assert (inner.task, inner.worker_name) == ("worker.tasks.add", "default")


def test_without_the_refusal_both_wait_for_one_process(
    lines: dict[str, dict[str, Any]], received: tuple[Receipt, ...]
) -> None:
    line = lines[WITHOUT_REFUSAL]
    assert line["happened"] == "TimeoutError; the sum, received after that, was 4"
    outer, inner = (one for one in received if one.task_id in (line["task_id"], line["inner_id"]))
    assert outer.worker == inner.worker
    assert outer.time < line["ended"] < inner.time


def test_instead_a_chain_or_a_replacement(lines: dict[str, dict[str, Any]], received: tuple[Receipt, ...]) -> None:
    assert lines[CHAIN]["happened"] == "16"
    assert lines[REPLACE]["happened"] == "16 · under one id ran hand_over, then add"
    ran = [one.task for one in received if one.task_id == lines[REPLACE]["task_id"]]
    assert ran == ["worker.waiting.hand_over", "worker.tasks.add"]


BAD_INPUT = (
    ("-1", "'--seconds': -1.0 is not in the range 0.1<=x<=5.0"),
    ("60", "'--seconds': 60.0 is not in the range 0.1<=x<=5.0"),
    ("nan", "'--seconds': nan is not a number of seconds"),
    ("soon", "'--seconds': 'soon' is not a valid float range"),
)


@pytest.mark.parametrize(("seconds", "expected"), BAD_INPUT)
def test_bad_input_is_one_line_and_nothing_is_published(
    waybill_vhost: Address, waybill_watch: Watch, seconds: str, expected: str
) -> None:
    waybill_watch.settle()
    result = call("publishers.celery.waiting", "--seconds", seconds, "--broker", waybill_vhost.url)
    assert expected in result.complaint
    assert (result.code, result.out, waybill_watch.everything()) == (2, "", ())
