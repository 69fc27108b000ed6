"""The tour through all lessons: python -m publishers"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

import click

import exchanges
from publishers import (
    alternate,
    calling,
    canvas,
    deadletter,
    default,
    direct,
    entries,
    fanout,
    forward,
    headers,
    history,
    precedence,
    priority,
    queues,
    rates,
    raw,
    reliability,
    shards,
    signals,
    topic,
    waiting,
)
from publishers.stage import Stage, broker_options, open_stage
from waybill.errors import EXIT_FINDINGS, EXIT_OK
from waybill.provision import DOCKER, EMBEDDED
from waybill.terminal import complain, err, out, run

STAGES = {EMBEDDED: "the embedded broker", DOCKER: "RabbitMQ in a container"}

TOUR = (
    ("default · no routing options: the default queue", default.lesson),
    ("direct · the key equals the binding key", direct.lesson),
    ("topic · `*` is one word, `#` is any number of words", topic.lesson),
    ("fanout · every queue gets a copy; a Broadcast has a queue for each worker", fanout.lesson),
    ("headers · what the message carries, not its key; the rest to the alternate exchange", headers.lesson),
    ("priority · the highest first, among those that wait", priority.lesson),
    ("alternate exchange · what no binding took", alternate.lesson),
    ("dead-letter exchange · what the task rejected", deadletter.lesson),
    ("exchange to exchange · one exchange feeds another", forward.lesson),
    ("recent history · who comes late gets the last value", history.lesson),
    ("consistent hash · one key, always one queue", shards.lesson),
    ("raw · a task from plain pika, without Celery", raw.lesson),
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
LESSONS = {lesson.__module__.rpartition(".")[2]: (title, lesson) for title, lesson in TOUR}


@click.command()
@broker_options
@click.argument("names", metavar="[LESSON]...", nargs=-1, type=click.Choice(list(LESSONS)))
def main(broker: str, is_json: bool, names: Sequence[str]) -> int:
    """Start the fleet, publish through every exchange, and print for every message who received it.

    With LESSONs, such as topic or canvas, only these. Exit code 1 when anything happened otherwise than predicted.

    On a broker that is there, the workers that run on it are used; where none answers, the fleet is started.
    """
    began = monotonic()
    err.print(f"starting on {STAGES.get(broker, 'the broker that is there')} ...", style="dim")
    with open_stage(broker, exchanges.QUEUES, is_json, is_tour=True) as stage:
        err.print(f"{len(stage.watch.crew)} workers are ready after {monotonic() - began:.1f} s", style="dim")
        for title, lesson in map(LESSONS.__getitem__, names or LESSONS):
            if not is_json:
                out.print(f"\n[bold]{title}[/bold]")
            play(lesson, stage)
        surprises = stage.surprises
    for surprise in surprises:
        complain(f"otherwise than predicted: {surprise}")
    err.print(f"\nthe tour is over after {monotonic() - began:.1f} s", style="dim")
    return EXIT_FINDINGS if surprises else EXIT_OK


def play(lesson: Callable[[Stage], None], stage: Stage) -> None:
    """A lesson as a part of the tour: left out where it reads results that nobody keeps."""
    if lesson not in READ_RESULTS or stage.knows_results():
        lesson(stage)


if __name__ == "__main__":
    run(main, name="python -m publishers")
