"""A consistent-hash exchange: python -m publishers.shards customer.1 customer.2 customer.1"""

from __future__ import annotations

from exchanges import plugins
from publishers.support.lesson import lesson
from worker import tasks

QUEUES = [queue for queue in plugins.QUEUES if queue.exchange == plugins.shards]
KEYS = tuple(f"customer.{number}" for number in (1, 2, 3, 4, 1, 2, 3, 4))


@lesson(QUEUES, "KEY", default=KEYS, needs=[plugins.shards])
def publish(key: str) -> None:
    """Publish a task with each routing KEY: the same key always goes to the same queue."""
    tasks.work.apply_async(
        (key,),
        exchange="shards",
        exchange_type="x-consistent-hash",
        routing_key=key,
        mandatory=True,
    )


if __name__ == "__main__":
    publish.run()
