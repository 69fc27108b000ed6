"""The signals of one task: their order, the process of each, and that they are one sender's only."""

from __future__ import annotations

import os
from typing import Any

import pytest
from celery import Celery

from publishers.support.control import ask
from tests.support.programs import call
from tests.support.showcase import Lessons, Played
from waybill.celery_app import publication
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch
from worker.signalled import clean_up, clean_up_id, deliver

RUN = ["task_received", "task_prerun"]
SUCCESS = ["task_success", "task_postrun"]
RETRY = ["before_task_publish", "task_retry", "task_postrun"]
# Parcel -> its signals, and where its clean-up ran
PARCELS: tuple[tuple[str, list[str], str], ...] = (
    ("plain", ["before_task_publish", *RUN, *SUCCESS], "none"),
    ("late", ["before_task_publish", *RUN, *RETRY, *RUN, *SUCCESS], "none"),
    ("fragile", ["before_task_publish", *RUN, "task_failure", "task_postrun"], "clerk (cleanup)"),
)


@pytest.fixture
def played(lessons: Lessons) -> Played:
    return lessons["signals"]


@pytest.fixture
def lines(played: Played) -> list[dict[str, Any]]:
    """What the lesson said."""
    return played.lines


def signals_of(lines: list[dict[str, Any]], parcel: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["what"].startswith(f"deliver {parcel},")]


@pytest.mark.parametrize(("parcel", "expected", "_clean_up"), PARCELS)
def test_the_order_of_the_signals(
    lines: list[dict[str, Any]], parcel: str, expected: list[str], _clean_up: str
) -> None:
    found = signals_of(lines, parcel)
    assert [line["signal"] for line in found] == expected
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)


@pytest.mark.parametrize("parcel", [parcel for parcel, _, _ in PARCELS])
def test_the_process_of_each_signal(lines: list[dict[str, Any]], waybill_watch: Watch, parcel: str) -> None:
    """Held against what the worker itself says of its processes."""
    first, *rest = signals_of(lines, parcel)
    assert first["pid"] == os.getpid()
    (stats,) = ask("stats", [one for one in waybill_watch.consumers_by_worker if one.startswith("default@")]).values()
    (child,) = stats["pool"]["processes"]
    expected = [stats["pid"] if line["signal"] == "task_received" else child for line in rest]
    assert [line["pid"] for line in rest] == expected


@pytest.mark.parametrize(("parcel", "_signals", "expected"), PARCELS)
def test_the_clean_up_runs_after_a_failure_and_in_its_own_queue(
    lines: list[dict[str, Any]], played: Played, parcel: str, _signals: list[str], expected: str
) -> None:
    (line,) = (one for one in lines if one["what"] == f"{parcel}: clean-up")
    assert line["happened"] == expected
    clean_up_task = clean_up_id(line["task_id"])
    received = played.receipts_of([clean_up_task])[clean_up_task]
    assert [f"{one.worker_name} ({one.queue})" for one in received] == ([] if expected == "none" else [expected])
    assert {one.task for one in received} <= {clean_up.name}


def test_another_sender_that_fails_is_not_heard(lines: list[dict[str, Any]], played: Played) -> None:
    heard = [line["happened"] for line in lines if line["what"].startswith("divide(1, 0): ")]
    assert heard == ["none", "none"]
    (other,) = (line["task_id"] for line in lines if line["what"] == "divide(1, 0): clean-up")
    received = played.receipts_of([other, clean_up_id(other)])
    assert [len(receipts) for receipts in received.values()] == [1, 0]
    assert other not in {line.get("task_id") for line in lines if "signal" in line}


def test_only_what_is_asked_for(waybill_vhost: Address, waybill_watch: Watch) -> None:
    assert waybill_watch.consumers_by_worker
    result = call("publishers.celery.signals", "fragile", "--broker", waybill_vhost.url, "--json")
    assert result.code == 0
    assert [line["signal"] for line in result.objects if "signal" in line] == PARCELS[2][1]


def test_asking_where_the_task_would_go_sends_no_signal_on(waybill_app: Celery) -> None:
    sent, _ = publication.capture(waybill_app, deliver.name, ("plain",))
    assert (sent.task, sent.routing_key) == (deliver.name, "default")


def test_a_parcel_that_is_none_is_one_line(waybill_vhost: Address) -> None:
    result = call("publishers.celery.signals", "heavy", "--broker", waybill_vhost.url)
    assert "'heavy' is not one of 'plain', 'late', 'fragile'" in result.complaint
    assert (result.code, result.out) == (2, "")
