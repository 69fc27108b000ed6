"""The direct exchange `media`: python -m publishers.direct video image"""

from __future__ import annotations

from exchanges import direct
from publishers.support.lesson import lesson
from worker import tasks


@lesson(direct.QUEUES, "KIND", default=("video", "image", "image"))
def publish(kind: str) -> None:
    """Publish a file of each KIND with the routing key media.KIND: video and image have a queue."""
    tasks.encode.apply_async(
        (f"a-{kind}",),
        exchange="media",
        exchange_type="direct",
        routing_key=f"media.{kind}",
        mandatory=True,  # with confirm_publish: raises here if no queue takes it
    )


if __name__ == "__main__":
    publish.run()
