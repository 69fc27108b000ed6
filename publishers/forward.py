"""An exchange that is bound to another exchange: python -m publishers.forward shop.paid"""

from __future__ import annotations

from exchanges import forward
from publishers.support.lesson import lesson
from worker import tasks


@lesson(forward.QUEUES, "KEY", default=("shop.paid", "shop.returned"))
def publish(key: str) -> None:
    """Publish an event with each routing KEY to `shop`: the exchange `billing` is bound to it with shop.paid."""
    tasks.work.apply_async(
        (key,),
        exchange="shop",
        exchange_type="topic",
        routing_key=key,
        mandatory=True,
    )


if __name__ == "__main__":
    publish.run()
