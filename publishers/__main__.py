"""Several lessons one after the other: python -m publishers demo, python -m publishers tour, or their names"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import IO, Any

import click

import exchanges
from publishers import (
    alternate,
    deadletter,
    default,
    direct,
    fanout,
    forward,
    headers,
    history,
    priority,
    raw,
    shards,
    topic,
)
from publishers.celery import calling, canvas, entries, precedence, queues, rates, reliability, signals, waiting
from publishers.support.opening import open_stage, title
from publishers.support.program import lesson_options
from publishers.support.stage import Stage
from publishers.support.summary import show_next_steps, show_summary
from waybill.cli.running import run
from waybill.cli.status import status
from waybill.cli.terminal import err, out, print_error
from waybill.errors import EXIT_FINDINGS, EXIT_OK

EXCHANGE_LESSONS = (
    ("default · no routing options: the default queue", default.publish),
    ("direct · the key equals the binding key", direct.publish),
    ("topic · `*` is one word, `#` is any number of words", topic.publish),
    ("fanout · every queue gets a copy; a Broadcast has a queue for each worker", fanout.publish),
    ("headers · what the message carries, not its key; the rest to the alternate exchange", headers.publish),
    ("priority · the highest first, among those that wait", priority.publish),
    ("alternate exchange · what no binding took", alternate.publish),
    ("dead-letter exchange · what the task rejected", deadletter.publish),
    ("exchange to exchange · one exchange feeds another", forward.publish),
    ("recent history · who comes late gets the last value", history.publish),
    ("consistent hash · one key, always one queue", shards.publish),
    ("raw · a task from plain pika, without Celery", raw.lesson),
)
TOUR = (
    *EXCHANGE_LESSONS,
    ("entry points · two ways to make the application, three to start its worker", entries.lesson),
    ("precedence · who decides where a task goes", precedence.lesson),
    ("calling · what a call returns, where it ran, and what becomes of the result", calling.lesson),
    ("waiting · or not, for a result", waiting.lesson),
    ("queues · shares, isolation, tasks at once, and the order of service", queues.lesson),
    ("rates · limits are kept by each worker for itself", rates.lesson),
    ("canvas · tasks made of tasks, and where each part ran", canvas.lesson),
    ("signals · of one task, in their order and by process", signals.lesson),
    ("reliability · a killed worker, delay queues, and poison that is parked", reliability.lesson),
)

# They are left out where nobody knows in which backend the workers keep their results.
READ_RESULTS = (calling.lesson, waiting.lesson, queues.lesson, rates.lesson, canvas.lesson, reliability.lesson)


# A lesson's name, that of its module, -> its title and the lesson.
LESSONS = {lesson.__module__.rpartition(".")[2]: (title_, lesson) for title_, lesson in TOUR}

# What can be named to play several lessons: the exchanges alone, and everything.
GROUPS = {"demo": tuple(LESSONS)[: len(EXCHANGE_LESSONS)], "tour": tuple(LESSONS)}

# Lesson -> what it really waits for; none of them can be shown in less.
WAITS = {
    "entries": "two more workers start",
    "calling": "a countdown of 2 s",
    "waiting": "tasks of 0.3 s and a timeout of 0.5 s",
    "queues": "tasks that keep workers busy",
    "rates": "limits of 10 tasks a second",
    "canvas": "the poll of `chord_unlock` after 1 s",
    "reliability": "two workers of its own, delay queues and a countdown",
}


def show_lessons(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    """Print the lessons' names and titles, and end."""
    if not is_asked:
        return
    for group, names in (("demo", GROUPS["demo"]), ("tour", GROUPS["tour"][len(GROUPS["demo"]) :])):
        out.print(f"[bold]{group}[/bold]{' · these too' * (group == 'tour')}")
        for name in names:
            wait = f"; waits for: {WAITS[name]}" if name in WAITS else ""
            out.print(f"  {name:<12} {LESSONS[name][0].partition(' · ')[2]}{wait}", markup=False)
    context.exit()


@click.command()
@lesson_options
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=show_lessons, help="Name the lessons, and end."
)
@click.argument("names", metavar="[demo|tour|LESSON]...", nargs=-1, type=click.Choice([*GROUPS, *LESSONS]))
def main(broker: str, is_json: bool, record: IO[str] | None, names: Sequence[str]) -> int:
    """Start the fleet, publish through every exchange, and print for every message who received it.

    `demo` plays the twelve lessons about exchanges, `tour` (the default) all. Name lessons to play only those. Exit
    code 1 when anything differs from the prediction.

    On a running broker its workers are used; where none answers, the fleet is started.
    """
    began = monotonic()
    chosen = list(dict.fromkeys(lesson for name in names or ["tour"] for lesson in GROUPS.get(name, (name,))))
    err.print(f"starting {len(chosen)} lesson{'s' * (len(chosen) > 1)} on {title(broker)} ...", style="dim")
    needs = {queue for name in chosen for queue in getattr(LESSONS[name][1], "queues", exchanges.QUEUES)}
    with open_stage(broker, needs, is_json, is_tour=True, record=record) as stage:
        err.print(
            f"{len(stage.watch.consumers_by_worker)} workers are ready after {monotonic() - began:.1f} s", style="dim"
        )
        for name in chosen:
            heading, lesson = LESSONS[name]
            if not is_json:
                out.print(f"\n[bold]{heading}[/bold]")
            with status.working(f"lesson {name}"):
                play(lesson, stage)
        tally, surprises = stage.tally, stage.surprises
    if not is_json:
        show_summary(len(chosen), tally, monotonic() - began)
    for surprise in surprises:
        print_error(f"mismatch: {surprise}")
    if not is_json:
        show_next_steps(is_all=len(chosen) == len(LESSONS))
    return EXIT_FINDINGS if surprises else EXIT_OK


def play(lesson: Callable[[Stage], Any], stage: Stage) -> Any:
    """A lesson as a part of the tour: left out where it reads results that nobody keeps."""
    return lesson(stage) if lesson not in READ_RESULTS or stage.knows_results() else None


if __name__ == "__main__":
    run(main, name="python -m publishers")
