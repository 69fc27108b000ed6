"""Through the headers exchanges: python -m publishers.headers format=pdf type=report"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import headers
from publishers.stage import Stage, pairs, publisher
from waybill.cli.running import run
from worker import tasks

DOCUMENTS = (
    ("format=pdf", "type=report"),
    ("format=zip",),
    ("format=txt", "priority=high"),
    ("format=pdf", "type=invoice"),
)


def lesson(stage: Stage, values: Sequence[str] = ()) -> None:
    """Publish one document with these headers, each NAME=VALUE.

    Without any: four documents, and two tasks through `by_task`, whose binding looks at the header `task` that Celery
    sets itself.
    """
    if stage.lacks(headers.documents):
        return
    for document in (values,) if values else DOCUMENTS:
        label = " ".join(document)
        stage.publish(tasks.work, label, exchange=headers.documents, label=label, headers=dict(pairs(document)))
    if not values:
        stage.publish(tasks.encode, "a-film", exchange=headers.by_task, label=f"task={tasks.encode.name}")
    stage.show()


main = publisher(headers.QUEUES)(click.argument("values", metavar="[NAME=VALUE]...", nargs=-1)(lesson))

if __name__ == "__main__":
    run(main, name="python -m publishers.headers")
