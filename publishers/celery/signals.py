"""The signals of one task, in their order and by process: python -m publishers.celery.signals late fragile"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

import click
from celery.signals import before_task_publish
from kombu.message import Message as KombuMessage

from exchanges import default, lanes
from publishers.support.program import publisher
from publishers.support.stage import Stage
from waybill.cli.running import run
from waybill.errors import FleetError
from waybill.testing import receipts
from worker import signalled, tasks
from worker.app import app

# A task that fails without anybody listening: the handlers are connected to another sender.
OTHER = "divide(1, 0)"

# Seconds in which the last signal of a task has to be heard.
SIGNAL_TIMEOUT = 60.0

PUBLISHER, MAIN, CHILD = "publisher", "worker's main process", "worker's child process"

PARCELS = ("plain", "late", "fragile")


@dataclass(frozen=True)
class Heard:
    """One signal, as the process told it in which it was sent.

    Attributes:
        worker: the node name; empty for this program.
        time: in seconds since the epoch, on the clock of that process's machine.
        pid, parent_pid: of that process.
    """

    worker: str
    task_id: str
    signal: str
    time: float
    pid: int
    parent_pid: int


def lesson(stage: Stage, parcels: Sequence[str] = ()) -> None:
    """Deliver each PARCEL, plain, late or fragile, and show the signals of its task as they happened.

    A late one is retried, a fragile one fails, and its clean-up has a queue of its own. Without a PARCEL: one of each.
    """
    with listening(stage) as heard:
        # First in the same queue: its signals, were they heard, would come before the others'.
        other = tasks.divide.delay(1, 0).id
        sent = [(signalled.deliver.delay(parcel).id, parcel) for parcel in parcels or PARCELS]
        await_signals(stage, heard, [task_id for task_id, _ in sent])
    for task_id, parcel in sent:
        tell_signals(stage, parcel, in_order(heard, task_id))
    tell_clean_ups(stage, [*sent, (other, OTHER)])
    heard_of_other = [one.signal for one in in_order(heard, other)]
    stage.tell(f"{OTHER}: signals heard", ", ".join(heard_of_other) or "none")


@contextmanager
def listening(stage: Stage) -> Iterator[list[Heard]]:
    """The signals of the task `deliver` from the publisher and from the workers, as they come."""
    heard: list[Heard] = []

    def on_publish(headers: Mapping[str, Any], **_: object) -> None:
        heard.append(Heard("", headers["id"], before_task_publish.name, time(), os.getpid(), os.getppid()))

    def on_event(event: Mapping[str, Any], _message: KombuMessage) -> None:
        heard.append(
            Heard(
                worker=event["hostname"],
                task_id=event["uuid"],
                signal=event["signal"],
                time=event["timestamp"],
                pid=event["pid"],
                parent_pid=event["parent_pid"],
            )
        )

    before_task_publish.connect(on_publish, sender=signalled.deliver.name)
    try:
        with receipts.listening(app, stage.watch.connection, f"{signalled.EVENT_GROUP}.#", on_event):
            yield heard
    finally:
        before_task_publish.disconnect(on_publish, sender=signalled.deliver.name)


def await_signals(stage: Stage, heard: Sequence[Heard], task_ids: Sequence[str]) -> None:
    """Wait until the last signal of each task is here.

    Raises:
        FleetError: it did not come in time.
    """
    deadline = monotonic() + SIGNAL_TIMEOUT
    while missing := [one for one in task_ids if not is_over([signal.signal for signal in in_order(heard, one)])]:
        if monotonic() > deadline:
            raise FleetError(
                f"the signals of {len(missing)} task(s) did not end within {SIGNAL_TIMEOUT:.0f} s: "
                f"does a worker with worker/signalled.py consume {default.QUEUES[0].name!r}?"
            )
        with suppress(TimeoutError):
            stage.watch.connection.drain_events(timeout=1)


def is_over(signals: Sequence[str]) -> bool:
    """Whether these are all signals of a task: main process and child send over different connections."""
    runs = signals.count("task_received")
    has_ended = "task_success" in signals or "task_failure" in signals
    return has_ended and runs == signals.count("task_prerun") == signals.count("task_postrun")


def in_order(heard: Sequence[Heard], task_id: str) -> list[Heard]:
    """One task's signals as they happened. A worker's processes have one clock; we came before all of them."""
    return sorted((one for one in heard if one.task_id == task_id), key=lambda one: (bool(one.worker), one.time))


def sides(signals: Sequence[Heard]) -> list[str]:
    """The process of each signal: a worker's main one is who received the task, and the others are its children."""
    main = {(one.worker, one.pid) for one in signals if one.signal == "task_received"}
    return [
        PUBLISHER
        if not one.worker
        else MAIN
        if (one.worker, one.pid) in main
        else CHILD
        if (one.worker, one.parent_pid) in main
        else f"process {one.pid}"
        for one in signals
    ]


def tell_signals(stage: Stage, parcel: str, signals: Sequence[Heard]) -> None:
    """One line for each signal, with the process that sent it."""
    for number, (one, side) in enumerate(zip(signals, sides(signals), strict=True), start=1):
        stage.tell(
            f"deliver {parcel}, signal {number}",
            f"{one.signal} · {side}",
            task_id=one.task_id,
            signal=one.signal,
            worker=one.worker,
            pid=one.pid,
            time=one.time,
        )


def tell_clean_ups(stage: Stage, sent: Sequence[tuple[str, str]]) -> None:
    """Where the clean-up after each task ran.

    The signals have told that the tasks are over, so what they ordered is published.
    """
    received = stage.watch.receipts_of(signalled.clean_up_id(task_id) for task_id, _ in sent)
    for task_id, what in sent:
        found = received[signalled.clean_up_id(task_id)]
        where = ", ".join(one.place for one in found) or "none"
        stage.tell(f"{what}: clean-up", where, task_id=task_id)


main = publisher((*default.QUEUES, lanes.cleanup))(
    click.argument("parcels", metavar="[PARCEL]...", nargs=-1, type=click.Choice(PARCELS))(lesson)
)

if __name__ == "__main__":
    run(main, name="python -m publishers.celery.signals")
