"""A producer of one thread's own: who gets it, and what stands there afterwards."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery
from kombu import Producer

from waybill.celery_app.private import made_producers
from waybill.celery_app.producers import producer_of_this_thread


@pytest.fixture
def app() -> Celery:
    return Celery("shop", broker="memory://", set_as_current=False)


def given(app: Celery) -> Any:
    """The producer that somebody gets who asks the application for one."""
    with app.producer_or_acquire() as producer:
        return producer


def in_a_thread(work: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_one_thread_gets_it_and_the_others_theirs(app: Celery) -> None:
    ours = object.__new__(Producer)
    with producer_of_this_thread(app, ours):
        assert given(app) is ours
        assert app.amqp.Producer("connection") is ours
        assert in_a_thread(lambda: given(app)) is not ours
    assert given(app) is not ours
    assert "Producer" not in vars(app.amqp)


def test_the_innermost_counts(app: Celery) -> None:
    outer, inner = object.__new__(Producer), object.__new__(Producer)
    with producer_of_this_thread(app, outer):
        with producer_of_this_thread(app, inner):
            assert given(app) is inner
        assert given(app) is outer


@pytest.mark.parametrize("is_made", [False, True])
def test_the_application_has_its_own_again_in_whatever_order_they_end(app: Celery, is_made: bool) -> None:
    before = app.amqp.producer_pool if is_made else None
    first, second = ExitStack(), ExitStack()
    mine, other = object.__new__(Producer), object.__new__(Producer)
    first.enter_context(producer_of_this_thread(app, mine))

    def meanwhile() -> Any:
        second.enter_context(producer_of_this_thread(app, other))
        first_seen = given(app)
        ended.set()
        done.wait(10)
        seen = given(app)
        second.close()
        return first_seen, seen

    ended, done = threading.Event(), threading.Event()
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(meanwhile()))
    thread.start()
    assert ended.wait(10)
    first.close()  # began first, and ends first
    assert given(app) is not mine
    done.set()
    thread.join()
    assert found == [(other, other)]
    assert made_producers(app) is before
    assert "Producer" not in vars(app.amqp)
