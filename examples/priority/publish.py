"""Publish tasks with priorities; run it before the worker starts, so that they wait in the queue."""

from tasks import run

for priority in (1, 9, 5):
    run.apply_async((priority,), queue="work", priority=priority, mandatory=True)
