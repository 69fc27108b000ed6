"""Killed workers, retries that wait in queues, poison that is parked: what the lesson says, and what receipts say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import Celery

from exchanges.reliability import DELAYS, QUEUES, work
from tests.support.programs import ROOT, call
from tests.support.showcase import Lessons, Played
from tools.readme import BLOCK, VARYING
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch

PAGE = ROOT / "docs" / "lessons" / "reliability.md"

ONE, OTHER = r"(fragile[12]) \(fragile\)", r"(?!\1)fragile[12] \(fragile\)"

# What was done, what came of it
SAID = (
    ("late ack, and fragile[12] is killed", rf"{ONE}; {OTHER}, redelivered"),
    ("child killed, reject_on_worker_lost", rf"{ONE}; \1 \(fragile\), redelivered · done"),
    ("child killed, without it", rf"{ONE} · WorkerLostError"),
    (
        "fail, and back off by delay queues",
        r"done, after delay_50ms \(\d+ ms\), delay_100ms \(\d+ ms\), delay_200ms \(\d+ ms\)",
    ),
    ("  what comes behind it", "runs before the retry"),
    ("fail, and try again by a countdown", r"fragile[12] holds it for \d+ ms · done"),
    ("  what comes behind it", "runs after the retry"),
    ("poison", "parked: rejected in fragile"),
    ("  looked at", "still in parked"),
    ("  put back", rf"{ONE} · done"),
)

# The line -> whether each receipt of its task is a redelivery
REDELIVERED: tuple[tuple[str, list[bool]], ...] = (
    ("late ack", [False, True]),
    ("child killed, reject_on_worker_lost", [False, True]),
    ("child killed, without it", [False]),
    ("fail, and back off", [False] * (1 + len(DELAYS))),
    ("fail, and try again by a countdown", [False, False]),
    ("  put back", [False] * (2 + len(DELAYS))),
)


@pytest.fixture
def played(lessons: Lessons) -> Played:
    return lessons["reliability"]


@pytest.fixture
def lines(played: Played) -> list[dict[str, Any]]:
    """What the lesson said."""
    return played.lines


def line_of(lines: list[dict[str, Any]], beginning: str) -> dict[str, Any]:
    return next(line for line in lines if line["what"].startswith(beginning))


def test_what_it_says(lines: list[dict[str, Any]]) -> None:
    for line, (what, happened) in zip(lines, SAID, strict=True):
        assert re.fullmatch(what, line["what"])
        assert re.fullmatch(happened, line["happened"]), line


@pytest.mark.parametrize(("beginning", "redelivered"), REDELIVERED)
def test_what_another_watch_has_seen(
    lines: list[dict[str, Any]], played: Played, beginning: str, redelivered: list[bool]
) -> None:
    line = line_of(lines, beginning)
    received = played.receipts_of([line["task_id"]])[line["task_id"]]
    assert [one.redelivered for one in received] == redelivered
    assert {one.queue for one in received} == {work.name}
    assert [one.worker for one in received] == [one["worker"] for one in line["received"]]


def test_the_worker_that_is_killed_gets_nothing_more(lines: list[dict[str, Any]]) -> None:
    first, *others = (line["received"] for line in lines if line.get("received"))
    killed, survivor = (one["worker"] for one in first)
    assert killed != survivor
    assert {one["worker"] for received in others for one in received} == {survivor}
    assert killed.partition("@")[0] in lines[0]["what"]


def test_each_retry_waits_in_a_queue_of_its_own(lines: list[dict[str, Any]]) -> None:
    line = line_of(lines, "fail, and back off")
    assert line["through"] == [[f"delay_{delay}ms", "expired"] for delay in DELAYS]
    assert [found >= delay for found, delay in zip(line["waited"], DELAYS, strict=True)] == [True] * len(DELAYS)


def test_a_retry_comes_back_by_the_work_exchange(lines: list[dict[str, Any]], played: Played) -> None:
    task_id = line_of(lines, "fail, and back off")["task_id"]
    assert [one.exchange for one in played.receipts_of([task_id])[task_id]] == ["", *["fragile"] * len(DELAYS)]


def test_nothing_is_left(lines: list[dict[str, Any]], waybill_app: Celery) -> None:
    assert lines
    with brokers.connect(waybill_app) as connection, connection.channel() as channel:
        found = {queue.name: channel.queue_declare(queue.name, passive=True) for queue in QUEUES}
    assert {(one.message_count, one.consumer_count) for one in found.values()} == {(0, 0)}


def test_who_consumes_already_is_in_the_way(waybill_vhost: Address, waybill_app: Celery, waybill_watch: Watch) -> None:
    """The lesson's messages would be theirs, and they are not ours to kill."""
    worker = next(one for one in waybill_watch.consumers_by_worker if one.startswith("default@"))
    asked: dict[str, Any] = {"destination": [worker], "reply": True, "limit": 1}
    waybill_app.control.add_consumer(work.name, **asked)
    try:
        result = call("publishers.celery.reliability", "--broker", waybill_vhost.url)
    finally:
        waybill_app.control.cancel_consumer(work.name, **asked)
    assert f"queue 'fragile' is consumed by {worker}: expected nobody" in result.complaint
    assert (result.code, result.out) == (2, "")


def test_the_page_shows_it(played: Played) -> None:
    (shown,) = (
        found["shown"]
        for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
        if "reliability" in found["command"]
    )
    assert VARYING.sub("#", played.result.out) == VARYING.sub("#", shown)
