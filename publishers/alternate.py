"""An exchange with an alternate exchange: python -m publishers.alternate card bitcoin"""

from __future__ import annotations

from exchanges import alternate
from publishers.support.lesson import lesson
from worker import tasks


@lesson(alternate.QUEUES, "KEY", default=("card", "bitcoin"))
def publish(key: str) -> None:
    """Publish a payment with each routing KEY: card has a queue, everything else goes to the alternate exchange."""
    tasks.work.apply_async(
        (key,),
        exchange="payments",
        exchange_type="direct",
        routing_key=key,
        mandatory=True,
    )


if __name__ == "__main__":
    publish.run()
