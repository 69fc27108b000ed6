"""What the result backend `rpc://` can do of the canvas, and that it refuses chords before anything is published."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature

from publishers.celery.canvas import publications
from publishers.support import results
from tests.support.programs import call
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch
from worker import tasks

pytestmark = pytest.mark.waybill_workers("default")


@pytest.fixture(scope="module", autouse=True)
def rpc(waybill_app: Celery) -> Iterator[None]:
    """Results by `rpc://`, for the workers too: they take the environment when they start, which is after this.

    One for the module: a backend that is left behind goes on consuming the process's one queue of answers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(results.VARIABLE, "rpc://")
        with results.kept(waybill_app, is_ours=False):
            yield


def adding(count: int) -> list[Signature]:
    return [tasks.add.s(i, i) for i in range(count)]


# What needs a chord: also a group with a task after it, wherever in a chain
CHORDS: dict[str, Callable[[], Signature]] = {
    "chord": lambda: chord(adding(3), tasks.total.s()),
    "group and task": lambda: chain(group(adding(3)), tasks.total.s()),
    "task, group and task": lambda: chain(tasks.add.s(1, 1), group([tasks.add.s(1), tasks.add.s(2)]), tasks.total.s()),
}

# What needs none -> its result
OTHERS: dict[str, tuple[Callable[[], Signature], object]] = {
    "group": (lambda: group(adding(4)), [0, 2, 4, 6]),
    "chain": (lambda: chain(tasks.add.s(2, 2), tasks.add.s(4), tasks.add.s(8)), 16),
    "starmap": (lambda: tasks.add.starmap([(1, 1), (2, 2)]), [2, 4]),
    "chunks": (lambda: tasks.add.chunks([(1, 1), (2, 2)], 1).group(), [[2], [4]]),
}


@pytest.mark.usefixtures("waybill_watch")
@pytest.mark.parametrize("make", CHORDS.values(), ids=CHORDS)
def test_a_chord_is_refused_before_anything_is_published(make: Callable[[], Signature]) -> None:
    with publications() as published, pytest.raises(NotImplementedError, match=r'"rpc" .* does not support chords'):
        make().apply_async()
    assert published == []


@pytest.mark.usefixtures("waybill_watch")
@pytest.mark.parametrize(("make", "expected"), OTHERS.values(), ids=OTHERS)
def test_the_rest_works(make: Callable[[], Signature], expected: object) -> None:
    assert results.outcome(make().apply_async()) == expected


@pytest.mark.usefixtures("waybill_watch")
def test_only_who_asked_is_answered_and_once(waybill_app: Celery) -> None:
    result = tasks.add.delay(1, 1)
    assert results.outcome(result) == 2
    assert (result.state, waybill_app.AsyncResult(result.id).state) == ("SUCCESS", "PENDING")


def test_the_lesson_says_it_in_one_line(waybill_vhost: Address, waybill_watch: Watch) -> None:
    assert waybill_watch.consumers_by_worker
    with publications() as published:
        result = call("publishers.celery.canvas", "--broker", waybill_vhost.url)
    assert "the result backend rpc:// can't do chords: name another one in WAYBILL_RESULT_BACKEND" in result.complaint
    assert (result.code, result.out, published) == (2, "", [])
