"""What queues are for: shares, waits, tasks at once and the order of service, measured on running workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from exchanges import lanes, priority
from publishers.celery.queues import FALLING, NAP, NAPS, RISING, ROOM, require_workers
from publishers.support.control import ask, paused_consumers, prefetching
from publishers.support.runs import send, wait_for
from publishers.support.stage import Stage
from tests.support.programs import call
from tests.support.showcase import Lessons, Played, Showcase, state_of
from waybill.errors import FleetError
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch
from worker import tasks

WORK = priority.QUEUES[0]
PARTS = ("balancing", "isolation", "concurrency", "priority")


@pytest.fixture
def played(lessons: Lessons) -> Played:
    return lessons["queues"]


@pytest.fixture
def lines(played: Played) -> dict[str, dict[str, Any]]:
    """What the lesson said, by what it was about."""
    return played.by_what


@pytest.fixture
def stage(waybill_watch: Watch) -> Stage:
    return Stage(waybill_watch, set(), is_json=True)


def workers(line: Mapping[str, Any]) -> list[str]:
    return [one["worker"].partition("@")[0] for one in line["runs"]]


def span(line: Mapping[str, Any]) -> float:
    """Seconds from the first publication to the last end."""
    return float(max(one["done"] for one in line["runs"]) - min(one["published"] for one in line["runs"]))


def test_the_lesson_is_four_parts(lines: dict[str, dict[str, Any]]) -> None:
    assert list(Counter(what.partition(" · ")[0] for what in lines).items()) == list(
        zip(PARTS, (4, 3, 2, 3), strict=True)
    )


def test_two_workers_share_one_queue(lines: dict[str, dict[str, Any]]) -> None:
    shares = {name: set(workers(lines[f"balancing · {name}"])) for name in ("images1", "images2")}
    assert shares == {"images1": {"images1"}, "images2": {"images2"}}
    assert sum(len(lines[f"balancing · {name}"]["runs"]) for name in shares) == 12


def test_a_busy_worker_gets_no_more(lines: dict[str, dict[str, Any]]) -> None:
    busy, other = workers(lines["balancing · one has a long task"]), workers(lines["balancing · the other meanwhile"])
    assert (len(busy), len(set(other))) == (1, 1)
    assert set(busy).isdisjoint(other)


def test_each_task_had_the_receipt_that_the_lesson_says(lines: dict[str, dict[str, Any]], played: Played) -> None:
    told = {run["task_id"]: (run["worker"], run["queue"]) for line in lines.values() for run in line["runs"]}
    received = played.receipts_of(told)
    assert {task_id: [(one.worker, one.queue) for one in found] for task_id, found in received.items()} == {
        task_id: [place] for task_id, place in told.items()
    }


# Arrangement -> the workers of the quick tasks
LANES = (
    ("no worker of its own", {"both"}),
    ("its own, and the shared one", {"both", "quick"}),
    ("its own alone", {"quick"}),
)


@pytest.mark.parametrize(("arrangement", "expected"), LANES)
def test_who_runs_the_quick_tasks(lines: dict[str, dict[str, Any]], arrangement: str, expected: set[str]) -> None:
    assert {worker for queue, worker in lane(lines, arrangement) if queue == "quick"} == expected
    assert {worker for queue, worker in lane(lines, arrangement) if queue == "slow"} == {"both"}


def lane(lines: Mapping[str, Mapping[str, Any]], arrangement: str) -> list[tuple[str, str]]:
    """Queue and worker of each task, in the order in which they were done."""
    line = lines[f"isolation · {arrangement}"]
    return list(zip((one["queue"] for one in line["runs"]), workers(line), strict=True))


def test_quick_tasks_wait_for_every_slow_one_in_a_shared_worker(lines: dict[str, dict[str, Any]]) -> None:
    shared = lane(lines, "no worker of its own")
    assert (shared[0][0], shared[-1][0]) == ("slow", "quick")
    waits = [lines[f"isolation · {arrangement}"]["seconds"] for arrangement, _ in LANES]
    assert waits[0] > waits[-1]


def test_what_the_shared_worker_holds_waits_though_the_other_one_is_free(lines: dict[str, dict[str, Any]]) -> None:
    done = lane(lines, "its own, and the shared one")
    assert done.index(("quick", "both")) > done.index(("slow", "both"))


def test_as_many_tasks_at_once_as_processes(lines: dict[str, dict[str, Any]]) -> None:
    one, two = lines["concurrency · both, processes: 1"], lines["concurrency · quick, processes: 2"]
    assert (one["at_once"], set(workers(one))) == (1, {"both"})
    assert (two["at_once"], set(workers(two))) == (2, {"quick"})
    # From the first publication: the last task is published later, on a busy machine by much.
    assert span(one) >= NAPS * NAP
    assert span(two) >= NAPS * NAP / 2


SHOWN = {FALLING: "█▉▊▋▌▌▍▎▏  9 8 7 6 5 4 3 2 1", RISING: "▏▎▍▌▌▋▊▉█  1 2 3 4 5 6 7 8 9"}
# How the queue was filled -> the order in which the worker received its messages
ORDERS = (
    ("a filled queue", FALLING),
    ("filled behind a busy worker", FALLING),
    (f"the same, prefetch {ROOM}", RISING),
)


@pytest.mark.parametrize(("how", "expected"), ORDERS)
def test_the_order_of_service(
    lines: dict[str, dict[str, Any]], played: Played, how: str, expected: tuple[int, ...]
) -> None:
    line = lines[f"priority · {how}"]
    ids = [run["task_id"] for run in line["runs"]]
    received = sorted((one for found in played.receipts_of(ids).values() for one in found), key=lambda one: one.time)
    assert tuple(one.priority for one in received) == expected
    assert [one.task_id for one in received] == ids
    assert line["happened"] == SHOWN[expected]


def test_the_workers_are_left_as_they_were(
    lines: dict[str, dict[str, Any]], showcase: Showcase, waybill_watch: Watch
) -> None:
    assert lines
    assert state_of(waybill_watch) == showcase.state


def test_a_queue_that_was_filled_first_is_served_by_priority_with_any_prefetch(stage: Stage) -> None:
    """What hides priority is not the prefetch as such: it's what had been prefetched when the higher one came."""
    workers_ = stage.workers_of(WORK)
    with prefetching(stage, WORK, workers_, ROOM):
        with paused_consumers(stage, WORK):
            sent = [send(tasks.work, queue=WORK.name, priority=value) for value in RISING]
        wait_for(sent)
    received = stage.watch.receipts_of(one.result.id for one in sent)
    order = sorted((one for found in received.values() for one in found), key=lambda one: one.time)
    assert tuple(one.priority for one in order) == FALLING


def test_the_prefetch_is_set_for_a_while(stage: Stage) -> None:
    workers_ = stage.workers_of(WORK)

    def now() -> list[int]:
        return [stats["prefetch_count"] for stats in ask("stats", workers_).values()]

    assert now() == [1]
    with prefetching(stage, WORK, workers_, 7):
        assert now() == [7]
    assert now() == [1]


def test_whoever_looks_away_gets_nothing(stage: Stage) -> None:
    shared = [one for one in stage.workers_of(lanes.quick) if one.startswith("both@")]
    with paused_consumers(stage, lanes.quick, shared):
        sent = [send(tasks.work, queue=lanes.quick.name) for _ in range(6)]
        wait_for(sent)
    received = stage.watch.receipts_of(one.result.id for one in sent)
    assert {one.worker_name for found in received.values() for one in found} == {"quick"}


def test_a_command_that_a_worker_refuses(stage: Stage) -> None:
    with pytest.raises(FleetError, match=r"batch@\S+ refused 'rate_limit': unknown task"):
        ask("rate_limit", stage.workers_of(WORK), task_name="no.such.task", rate_limit="1/s")


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ("images2", r"needs two workers of the queue 'images'; found: images1@"),
        ("both", "needs a worker of the queues 'slow' and 'quick'; found: none"),
        ("quick", "needs a worker of the queue 'quick' alone; found: none"),
        ("batch", "needs a worker of the queue 'tasks'; found: none"),
    ],
)
def test_too_few_workers_are_one_line(stage: Stage, monkeypatch: pytest.MonkeyPatch, gone: str, expected: str) -> None:
    crew = {
        worker: queues
        for worker, queues in stage.watch.consumers_by_worker.items()
        if not worker.startswith(f"{gone}@")
    }
    monkeypatch.setattr(stage.watch._roll_call, "consumers_by_worker", crew)
    with pytest.raises(FleetError, match=expected):
        require_workers(stage)


def test_no_workers_are_one_line(rabbitmq_url: str) -> None:
    result = call("publishers.celery.queues", "--broker", rabbitmq_url)
    assert "this lesson needs two workers of the queue 'images'; found: none" in result.complaint
    assert (result.code, result.out) == (2, "")


def test_only_the_part_that_is_asked_for(waybill_vhost: Address, waybill_watch: Watch) -> None:
    assert waybill_watch.consumers_by_worker
    result = call("publishers.celery.queues", "concurrency", "--broker", waybill_vhost.url)
    assert result.code == 0, result.err
    first, second = result.out.splitlines()
    assert first.startswith("  concurrency · both, processes: 1            → █")
    assert (first[-9:], second[-9:]) == ("1 at once", "2 at once")


def test_a_part_that_is_none_is_one_line(waybill_vhost: Address) -> None:
    result = call("publishers.celery.queues", "speed", "--broker", waybill_vhost.url)
    assert "'speed' is not one of 'balancing', 'isolation', 'concurrency', 'priority'" in result.complaint
    assert (result.code, result.out) == (2, "")
