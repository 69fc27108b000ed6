"""A worker's command line in a test: what would leave the test, or isn't needed there, is left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from waybill.celery_app.fleet.workers import Worker
from waybill.testing.workers.libraries import Loaded

# Parameters of `celery worker` for files of the machine, other users, and a scheduler that publishes by itself.
OUTSIDE = frozenset({"detach", "statedb", "beat", "schedule_filename", "logfile", "pidfile", "uid", "gid", "umask"})
# Who only receives runs nothing, so one process will do.
POOL = frozenset({"pool", "concurrency", "autoscale", "pool_start_method", "max_tasks_per_child"})

RECEIVER = "waybill.testing.workers.receiver"
# What that program loads, for a zygote to load once.
LOADED = Loaded(("waybill.testing.receiving",))


def in_a_test(worker: Worker, *, runs_tasks: bool) -> Worker:
    """The worker as the pytest plugin starts it; one that isn't Celery's own program stays as it is."""
    if worker.module != "celery":
        return worker
    if runs_tasks:
        return replace(worker, module=RECEIVER, arguments=(*without(worker.arguments, OUTSIDE), "-E"))
    # Nobody asks these workers for their neighbours and health, which costs each of them a question at its start.
    alone = ("-P", "solo", "--without-mingle", "--without-gossip", "--without-heartbeat")
    return replace(worker, module=RECEIVER, arguments=(*without(worker.arguments, OUTSIDE | POOL), *alone))


def without(arguments: Sequence[str], parameters: Collection[str]) -> tuple[str, ...]:
    """A command line of `celery ... worker` without these parameters; Celery's own says how they are spelt."""
    from celery.bin.worker import worker as worker_command

    given: Any = worker_command
    spelt = {
        option: bool(getattr(one, "is_flag", False))
        for one in given.params
        if one.name in parameters
        for option in one.opts
    }
    return tuple(_kept(arguments, spelt))


def _kept(arguments: Sequence[str], spelt: dict[str, bool]) -> Iterator[str]:
    """The words that belong to none of these options; an option is a flag, or takes the next word."""
    words = iter(arguments)
    for word in words:
        name, _, value = word.partition("=")
        if name in spelt:
            if not spelt[name] and not value:
                next(words, None)
        elif word.startswith("--") or spelt.get(word[:2], True):  # `-c4` is the option `-c` with its value
            yield word
