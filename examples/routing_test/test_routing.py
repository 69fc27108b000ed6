"""Which workers receive which news: `pytest` in this folder runs it, with workers of its own."""

import pytest

from waybill import Watch

pytestmark = pytest.mark.waybill_workers("usa", "world")


def test_american_news_reach_both_workers(waybill_watch: Watch) -> None:
    waybill_watch.publish("shop.report", ("headline",), exchange="news", routing_key="usa.news")
    (delivery,) = waybill_watch.settle()
    assert delivery.by_worker == {"usa": "usa_all", "world": "all_news"}
