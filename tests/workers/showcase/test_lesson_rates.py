"""Rate limits: within the limit, by each worker for itself, and what waits behind a task that is held back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from celery.utils.time import rate

from exchanges import direct, lanes, reliability
from publishers.celery.rates import DEFAULT, HELD, TEXTS, limited, per_second, texts
from publishers.support.control import ask
from publishers.support.runs import finished, send, wait_for
from publishers.support.stage import Stage
from tests.support.programs import ROOT, call
from tests.support.showcase import Lessons, Played
from waybill.celery_app.fleet.workers import Worker
from waybill.errors import FleetError
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers, Zygote
from worker import tasks
from worker.metered import RATE, send_text


@pytest.fixture
def stage(waybill_watch: Watch) -> Stage:
    return Stage(waybill_watch, set(), is_json=True)


@pytest.fixture
def played(lessons: Lessons) -> Played:
    return lessons["rates"]


@pytest.fixture
def lines(played: Played) -> dict[str, dict[str, Any]]:
    """What the lesson said, by what it was about."""
    return played.by_what


def by_worker(line: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in line["runs"]:
        found[one["worker"].partition("@")[0]].append(one)
    return found


# Setting of the task -> its limit, where the application's default is 5/s
SETTINGS = (("no rate_limit", "5/s"), ("rate_limit='10/s'", "10/s"), ("rate_limit=0", "no limit"))


@pytest.mark.parametrize(("setting", "expected"), SETTINGS)
def test_the_limit_of_the_task_before_the_default(
    lines: dict[str, dict[str, Any]], setting: str, expected: str
) -> None:
    assert lines[f"default 5/s · {setting}"]["happened"] == expected


# What was measured -> its workers and the limit of each, a second
MEASURED = (
    ("declared 10/s · images1", {"images1"}, 10),
    ("declared 10/s · images1 and images2", {"images1", "images2"}, 10),
    ("declared 10/s · quick, processes: 2", {"quick"}, 10),
    ("at run time 20/s · images1", {"images1"}, 20),
)


@pytest.mark.parametrize(("what", "workers", "limit"), MEASURED)
def test_each_worker_keeps_the_limit(
    lines: dict[str, dict[str, Any]], played: Played, what: str, workers: set[str], limit: int
) -> None:
    shares = by_worker(lines[what])
    assert set(shares) == workers
    assert sum(map(len, shares.values())) == TEXTS
    for own in shares.values():
        # The first starts at once, each other one a step after the one before it, at the earliest.
        assert max(one["done"] for one in own) - min(one["published"] for one in own) >= (len(own) - 1) / limit
    received = played.receipts_of(one["task_id"] for own in shares.values() for one in own)
    assert {one.worker_name for found in received.values() for one in found} == workers


def test_two_workers_do_more_than_the_limit_of_one(lines: dict[str, dict[str, Any]]) -> None:
    one, two = (lines[what]["per_second"] for what, _, _ in MEASURED[:2])
    assert one <= 10 < two <= 20


def test_two_processes_of_one_worker_do_not(lines: dict[str, dict[str, Any]]) -> None:
    assert lines["declared 10/s · quick, processes: 2"]["per_second"] <= 10


def test_another_limit_at_run_time(lines: dict[str, dict[str, Any]]) -> None:
    assert 10 < lines["at run time 20/s · images1"]["per_second"] <= 20


# Prefetch -> how many of the tasks that are held back end before their neighbour: all of them, as many as there is no
# room for, and those that aren't held back
NEIGHBOURS = ((1, {HELD}), (3, {HELD - 2}), (10, {0, 1}))


@pytest.mark.parametrize(("prefetch", "expected"), NEIGHBOURS)
def test_what_is_held_back_holds_its_place_in_the_prefetch(
    lines: dict[str, dict[str, Any]], prefetch: int, expected: set[int]
) -> None:
    line = lines[f"behind {HELD} held back · prefetch {prefetch}"]
    assert line["before"] in expected
    neighbour, first = line["runs"][line["before"]], line["runs"][0]
    assert neighbour["done"] - first["published"] >= (line["before"] - 1) / rate(RATE)
    assert set(by_worker(line)) == {"images1"}


def test_the_lesson_is_nothing_else(lines: dict[str, dict[str, Any]]) -> None:
    assert len(lines) == len(SETTINGS) + len(MEASURED) + len(NEIGHBOURS)


def test_the_workers_are_left_as_they_were(lines: dict[str, dict[str, Any]], stage: Stage) -> None:
    assert lines
    workers = sorted(stage.watch.consumers_by_worker)
    limits = ask("registered", workers, taskinfoitems=["rate_limit"])
    stats = ask("stats", workers)
    queues = ask("active_queues", workers)
    for worker in workers:
        assert f"{send_text.name} [rate_limit={RATE}]" in limits[worker]
        assert stats[worker]["prefetch_count"] == stats[worker]["pool"]["max-concurrency"]
        assert {queue["name"] for queue in queues[worker]} == set(stage.watch.consumers_by_worker[worker])


def test_a_limit_in_minutes(stage: Stage) -> None:
    assert rate("20/m") == pytest.approx(2 * rate("10/m"))
    (worker,) = (one for one in stage.workers_of(lanes.quick) if one.startswith("quick@"))
    with limited([worker], "900/m"):
        (runs,) = finished(stage, texts(stage, lanes.quick, [worker]))
    assert 10 < per_second(runs) <= 15


# What no rate is -> what Celery's remote control says to it; without a look at it before, a typo is a KeyError there
WRONG = (("fast", "Invalid rate limit string"), ("10/x", "KeyError"), ("/s", "Invalid rate limit string"))


@pytest.mark.parametrize(("wrong", "expected"), WRONG)
def test_a_worker_refuses_what_is_no_rate(stage: Stage, wrong: str, expected: str) -> None:
    with pytest.raises(FleetError, match=rf"images1@\S+ refused 'rate_limit': {expected}"):
        ask("rate_limit", stage.workers_of(direct.images)[:1], task_name=send_text.name, rate_limit=wrong)


# RATE -> what the one line says
BAD_INPUT = (
    *((wrong, "expected N/s, N/m or N/h, such as 20/s") for wrong in ("10/x", "10", "/s", "fast", "1e3/s", "10/s/s")),
    ("10/m", "rate '10/m': expected at least 2/s"),
    ("0/s", "rate '0/s': expected at least 2/s"),
)


@pytest.mark.parametrize(("wrong", "expected"), BAD_INPUT)
def test_bad_input_is_one_line(waybill_vhost: Address, wrong: str, expected: str) -> None:
    result = call("publishers.celery.rates", wrong, "--broker", waybill_vhost.url)
    assert expected in result.complaint
    assert (result.code, result.out) == (2, "")


def test_no_workers_are_one_line(rabbitmq_url: str) -> None:
    result = call("publishers.celery.rates", "--broker", rabbitmq_url)
    assert "needs two workers of the queue 'images' and one of the queue 'quick'; found: none and none" in (
        result.complaint
    )
    assert (result.code, result.out) == (2, "")


@pytest.fixture
def metered(waybill_vhost: Address, waybill_watch: Watch, waybill_zygote: Zygote) -> Iterator[str]:
    """The queue of a worker whose application has a default rate limit; no worker of the fleet consumes it."""
    queue = reliability.work.name
    assert not any(queue in queues for queues in waybill_watch.consumers_by_worker.values())
    command = f"-A worker worker -n metered@%h -Q {queue} -P solo --without-mingle --without-gossip"
    setting = f"task.default_rate_limit={DEFAULT}"
    worker = Worker("metered", "metered@%h", (queue,), (*command.split(), "--", setting))
    with LocalWorkers([worker], brokers.environment(waybill_vhost.url), ROOT, waybill_zygote):
        yield queue


def test_the_default_limits_each_task_without_one(metered: str) -> None:
    wait_for([send(tasks.total, [1], queue=metered)])  # the worker is ready
    took = {}
    for task in (tasks.work, send_text):
        sent = [send(task, queue=metered) for _ in range(6)]
        wait_for(sent)
        took[task] = sent[-1].result.date_done.timestamp() - sent[0].published
    assert took[tasks.work] >= 5 / rate(DEFAULT)
    # Its own limit is higher.
    assert 5 / rate(RATE) <= took[send_text] < 5 / rate(DEFAULT)
