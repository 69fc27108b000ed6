"""Through the topic exchange `news`: python -m publishers.topic usa.news norway.weather"""

from __future__ import annotations

from collections.abc import Sequence

import click

from exchanges import topic
from publishers.stage import Stage, publisher
from waybill.cli.running import run
from worker import tasks

# No binding takes norway.weather and news: RabbitMQ returns them.
KEYS = ("usa.news", "usa.weather", "norway.news", "norway.weather", "usa", "usa.sports.nba", "news")


def lesson(stage: Stage, keys: Sequence[str] = ()) -> None:
    """Publish a piece of news with each routing KEY.

    Without a KEY: seven that show the rules. No binding takes norway.weather and news: they are returned.
    """
    for key in keys or KEYS:
        stage.publish(tasks.report, "headline", exchange=topic.news, routing_key=key)
    stage.show()


main = publisher(topic.QUEUES)(click.argument("keys", metavar="[KEY]...", nargs=-1)(lesson))

if __name__ == "__main__":
    run(main, name="python -m publishers.topic")
