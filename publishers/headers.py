"""The headers exchanges: python -m publishers.headers format=pdf type=report"""

from __future__ import annotations

import click

from exchanges import headers
from publishers.support.lesson import lesson
from publishers.support.program import pairs
from worker import tasks

DOCUMENTS = ("format=pdf type=report", "format=zip", "format=txt priority=high", "format=pdf type=invoice")
BY_TASK = f"task={tasks.encode.name}"


def one_document(_ctx: click.Context, _argument: click.Parameter, headers: tuple[str, ...]) -> tuple[str, ...]:
    """All arguments are the headers of one document."""
    pairs(headers)
    return (" ".join(headers),) if headers else ()


@lesson(
    headers.QUEUES,
    "NAME=VALUE",
    default=(*DOCUMENTS, BY_TASK),
    argument=click.argument("values", metavar="[NAME=VALUE]...", nargs=-1, callback=one_document),
    needs=[headers.documents],
    shows_value=True,
)
def publish(document: str) -> None:
    """Publish one document with these headers, each NAME=VALUE.

    Without any: four documents, and a task through `by_task`, whose binding matches the header `task` that Celery sets.
    """
    if document == BY_TASK:
        tasks.encode.apply_async(("a-film",), exchange="by_task", exchange_type="headers", mandatory=True)
        return
    tasks.work.apply_async(
        (document,),
        exchange="documents",
        exchange_type="headers",
        headers=dict(pairs(document.split())),
        mandatory=True,
    )


if __name__ == "__main__":
    publish.run()
