"""A broker that does not answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from waybill.errors import BrokerUnavailable
from waybill.rabbitmq.management import Management
from waybill.testing import brokers

OTHER, HERE = "amqp://nobody@127.0.0.1:1//", "amqp://guest:guest@127.0.0.1:2//"


def _with(**settings: Any) -> Callable[[], Celery]:
    def make() -> Celery:
        app = Celery("pointed", set_as_current=False)
        app.conf.update(settings)
        return app

    return make


@pytest.mark.parametrize("urls", [OTHER, [OTHER, OTHER], f"{OTHER};{OTHER}"])
def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, urls: Any) -> None:
    for name in brokers.BROKER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BrokerUnavailable, match=f"no broker at {re.escape(OTHER)}"):
        brokers.connect(_with(broker_url=urls)())


def test_no_management_api_answers() -> None:
    with Management("http://a:s3cret@127.0.0.1:1") as management, pytest.raises(BrokerUnavailable) as caught:
        management.queues()
    assert "http://127.0.0.1:1 does not answer" in str(caught.value)
    assert "s3cret" not in str(caught.value)
