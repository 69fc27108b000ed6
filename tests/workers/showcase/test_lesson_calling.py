"""The ways to call a task: what each returned, where it ran, and that what should publish nothing did not."""

from __future__ import annotations

import pytest

from publishers.celery.calling import DELAY, EXPIRY
from tests.support.programs import call
from tests.support.showcase import Lessons, Played
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch

ADD, DIVIDE, TOLD = "worker.tasks.add", "worker.tasks.divide", "worker.calling.told"

REFUSED = "TypeError: add() got an unexpected keyword argument 'queue'"
DELAYED = "received at once, ran when it was time"

# What was done -> what came of it, and the task and the place of its receipt; neither where nothing is published
LINES: tuple[tuple[str, str, str, str], ...] = (
    ("add(2, 2)", "4 · received by no worker: it ran here", "", ""),
    ("add.delay(2, 2)", "4 · default (default)", ADD, "default (default)"),
    ("add.apply_async((2, 2))", "4 · default (default)", ADD, "default (default)"),
    ("add.delay(2, 2, queue='cleanup')", REFUSED, "", ""),
    ("queue='cleanup'", "4 · clerk (cleanup)", ADD, "clerk (cleanup)"),
    ("exchange='media', routing_key='media.video'", "4 · videos (videos)", ADD, "videos (videos)"),
    ("queue='tasks', priority=9", "batch (tasks) · priority 9", TOLD, "batch (tasks)"),
    ("headers={'customer': '7'}", "the task reads {'customer': '7'}", TOLD, "default (default)"),
    ("countdown=2: get(timeout=1)", "TimeoutError, PENDING", TOLD, "default (default)"),
    ("countdown=2: get()", DELAYED, TOLD, "default (default)"),
    ("eta=datetime.now(UTC) + timedelta(...)", DELAYED, TOLD, "videos (videos)"),
    ("expires=1.5, countdown=2", "TaskRevokedError: expired, REVOKED", TOLD, "clerk (cleanup)"),
    ("expires=60", "ran before that, SUCCESS", TOLD, "batch (tasks)"),
    ("result.get(timeout=30)", "4", ADD, "default (default)"),
    ("result.id", "the id that the worker received", ADD, "default (default)"),
    ("add(2, 2): state", "SUCCESS, successful() True, failed() False", ADD, "default (default)"),
    ("divide(1, 0): state", "FAILURE, successful() False, failed() True", DIVIDE, "default (default)"),
    ("divide(1, 0): get()", "ZeroDivisionError: division by zero", DIVIDE, "default (default)"),
    (
        "divide(1, 0): traceback",
        "1 line in divide, ends with ZeroDivisionError: division by zero",
        DIVIDE,
        "default (default)",
    ),
    ("result.forget()", "PENDING: as if it had never been called", ADD, "default (default)"),
)


@pytest.fixture
def played(lessons: Lessons) -> Played:
    return lessons["calling"]


def test_every_way_to_call_is_told(played: Played) -> None:
    found = [(line["what"], line["happened"]) for line in played.lines]
    assert found == [(what, happened) for what, happened, _, _ in LINES]


@pytest.mark.parametrize(("what", "task", "place"), [(what, task, place) for what, _, task, place in LINES])
def test_where_it_ran(played: Played, what: str, task: str, place: str) -> None:
    (line,) = (one for one in played.lines if one["what"] == what)
    found = [one for one in played.received if one.task_id == line.get("task_id")]
    assert [(one.task, f"{one.worker_name} ({one.queue})") for one in found] == ([(task, place)] if task else [])


def test_what_publishes_nothing_published_nothing(played: Played) -> None:
    told = {line["task_id"] for line in played.lines if "task_id" in line}
    assert set(played.published) == told
    assert sorted(one.task_id for one in played.received) == sorted(told)


@pytest.mark.parametrize("what", ["countdown=2: get()", "eta=datetime.now(UTC) + timedelta(...)"])
def test_a_delayed_task_waits_in_the_worker(played: Played, what: str) -> None:
    (line,) = (one for one in played.lines if one["what"] == what)
    assert line["received"] < line["due"] <= line["ran"]
    assert line["due"] - line["received"] > DELAY - EXPIRY


def test_the_traceback_is_the_workers(played: Played) -> None:
    (line,) = (one for one in played.lines if one["what"] == "divide(1, 0): traceback")
    assert "worker/tasks.py" in line["traceback"]
    assert "return x / y" in line["traceback"]


# Arguments -> what is printed of the result
CALLS: tuple[tuple[tuple[str, ...], list[str], list[str]], ...] = (
    (("add", "2", "2"), ["default (default)"], ["4"]),
    (("add", '"a"', "b", "--queue", "cleanup"), ["clerk (cleanup)"], ['"ab"']),
    (("divide", "1", "0", "--exchange", "media", "--routing-key", "media.video"), ["videos (videos)"], ["ZeroDiv"]),
    (("add", "2", "2", "--priority", "9", "--countdown", "0.1", "--expires", "60"), ["default (default)"], ["4"]),
    (("add", "2", "2", "--exchange", "media", "--routing-key", "nope"), [], []),
)


@pytest.mark.parametrize(("arguments", "places", "returned"), CALLS)
def test_one_call(
    waybill_vhost: Address, waybill_watch: Watch, arguments: tuple[str, ...], places: list[str], returned: list[str]
) -> None:
    assert waybill_watch.consumers_by_worker
    task, *rest = arguments
    result = call("publishers.celery.calling", f"worker.tasks.{task}", *rest, "--broker", waybill_vhost.url, "--json")
    sent, *told = result.objects
    assert [f"{one['worker'].partition('@')[0]} ({one['queue']})" for one in sent["received"]] == places
    assert [line["happened"][: len(one)] for line, one in zip(told, returned, strict=True)] == returned
    assert result.code == (0 if places else 1)


# Arguments -> the one line that refuses them
BAD_INPUT: tuple[tuple[tuple[str, ...], str], ...] = (
    (("worker.tasks.ad",), "no task 'worker.tasks.ad' in the application 'showcase'; did you mean 'worker.tasks.add'?"),
    ((ADD, "2"), "arguments of 'worker.tasks.add': add() missing 1 required positional argument: 'y'"),
    ((ADD, "2", "2", "--queue", "cleanpu"), "no queue 'cleanpu' in the application; did you mean 'cleanup'?"),
    ((ADD, "2", "2", "--exchange", "medai", "--routing-key", "x"), "no exchange 'medai'"),
    ((ADD, "2", "2", "--countdown", "-1"), "'--countdown': -1.0 is not in the range 0<=x<=10"),
    ((ADD, "2", "2", "--countdown", "nan"), "cannot convert float NaN"),
    ((ADD, "2", "2", "--expires", "0"), "'--expires': 0.0 is not in the range x>0"),
    ((ADD, "2", "2", "--priority", "11"), "'--priority': 11 is not in the range 0<=x<=10"),
    ((ADD, "2", "2", "--header", "customer"), "header 'customer': expected name=value"),
    (("--queue", "cleanup"), "queue: expected a TASK to call with it"),
)


@pytest.mark.parametrize(("arguments", "expected"), BAD_INPUT)
def test_bad_input_is_one_line_and_nothing_is_published(
    waybill_vhost: Address, waybill_watch: Watch, arguments: tuple[str, ...], expected: str
) -> None:
    waybill_watch.settle()
    result = call("publishers.celery.calling", *arguments, "--broker", waybill_vhost.url)
    assert expected in result.complaint
    assert (result.code, result.out, waybill_watch.everything()) == (2, "", ())
