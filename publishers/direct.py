"""Through the direct exchange `media`: python -m publishers.direct video image"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import direct
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from worker import tasks


def lesson(stage: Stage, kinds: Sequence[str] = ()) -> None:
    """Publish a file of each KIND with the key media.KIND: video and image have a queue.

    Without a KIND: a video and two images.
    """
    for kind in kinds or ("video", "image", "image"):
        stage.publish(tasks.encode, f"a-{kind}", exchange=direct.media, routing_key=f"media.{kind}")
    stage.show()


main = publisher(direct.QUEUES)(click.argument("kinds", metavar="[KIND]...", nargs=-1)(lesson))

if __name__ == "__main__":
    run(main, name="python -m publishers.direct")
