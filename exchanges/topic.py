"""Topic: keys are words between dots; in a *binding key* `*` stands for exactly one word and `#` for zero or more.

In a *routing key* `*` and `#` are plain words, and empty words count.

    exchange  routing key     queues
    news      usa.news        all_news, usa_all
    news      usa.weather     usa_all, usa_weather
    news      norway.news     all_news
    news      norway.weather  none: the message is returned
    news      usa             usa_all (`#` also stands for no word at all)
    news      usa.sports.nba  usa_all
    news      news            none (`*` needs a word in front of the dot)
"""

from __future__ import annotations

from kombu import Exchange, Queue

news = Exchange("news", type="topic")

QUEUES = (
    Queue("usa_all", news, routing_key="usa.#"),
    Queue("all_news", news, routing_key="*.news"),
    Queue("usa_weather", news, routing_key="usa.weather"),
)
EXCHANGES = (news,)
