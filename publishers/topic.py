"""The topic exchange `news`: python -m publishers.topic usa.news norway.weather"""

from __future__ import annotations

from exchanges import topic
from publishers.support.lesson import lesson
from worker import tasks

# No binding matches norway.weather and news: RabbitMQ returns them.
KEYS = ("usa.news", "usa.weather", "norway.news", "norway.weather", "usa", "usa.sports.nba", "news")


@lesson(topic.QUEUES, "KEY", default=KEYS)
def publish(key: str) -> None:
    """Publish a piece of news with each routing KEY. Without a KEY: seven that show the rules."""
    tasks.report.apply_async(
        ("headline",),
        exchange="news",
        exchange_type="topic",
        routing_key=key,
        mandatory=True,  # with confirm_publish: raises here if no queue takes it
    )


if __name__ == "__main__":
    publish.run()
