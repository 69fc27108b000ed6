"""How the lesson about rates counts."""

from __future__ import annotations

from publishers.celery.rates import per_second
from publishers.support.runs import Run


def test_tasks_a_second_are_those_after_the_first_of_each_worker() -> None:
    def a_run(worker: str, done: float) -> Run:
        return Run("", worker, "", returned="", published=1.0, received=1.0, done=done)

    assert per_second([a_run("a", 1.0), a_run("a", 1.5), a_run("a", 2.0)]) == 2
    assert per_second([a_run("a", 1.0), a_run("a", 2.0), a_run("b", 1.0), a_run("b", 1.25)]) == 1 + 4
