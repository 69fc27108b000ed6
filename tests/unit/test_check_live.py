"""What check reads of a broker, from answers of the management API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import check_example
from waybill.errors import BrokerUnavailable
from waybill.rabbitmq.management import Management
from waybill.rabbitmq.state import live_facts


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


@pytest.mark.parametrize("channel", [[], {}, {"name": "x"}, {"connection_name": ""}])
def test_a_consumer_whose_channel_is_being_closed(monkeypatch: pytest.MonkeyPatch, channel: Any) -> None:
    row = {"queue": {"name": "celery"}, "consumer_tag": "1", "prefetch_count": 4, "ack_required": True}
    monkeypatch.setattr(Management, "_get", lambda *_: [{**row, "channel_details": channel}])
    (consumer,) = Management("http://127.0.0.1:1").consumers()
    assert (consumer.queue, consumer.connection_name) == ("celery", "")


def test_what_is_no_rabbitmq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Management, "_get", lambda *_: {"hello": "world"})
    with pytest.raises(BrokerUnavailable, match="is not RabbitMQ"):
        live_facts(Management("http://guest:secret@127.0.0.1:1"), "/")
