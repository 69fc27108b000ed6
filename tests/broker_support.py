"""What the broker's tests share: the two brokers that one case runs on."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from waybill.broker import Broker

LIVE_URL_VARIABLE = "WAYBILL_LIVE_BROKER_URL"
BROKERS = ("embedded", "RabbitMQ")


def broker_url(which: str) -> Iterator[str]:
    """The address of an embedded broker of its own, or of the live one; the test is skipped where there is none."""
    if which == "embedded":
        with Broker() as broker:
            yield broker.url
        return
    url = os.environ.get(LIVE_URL_VARIABLE)
    if not url:
        pytest.skip(f"no RabbitMQ: {LIVE_URL_VARIABLE} is not set")
    yield url


def fresh(prefix: str = "q") -> str:
    """A name that no other test has, on a broker that others use too."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"
