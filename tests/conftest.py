"""Where the tests find RabbitMQ."""

from __future__ import annotations

import os

import pytest

LIVE_BROKER = "WAYBILL_LIVE_BROKER_URL"


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """The AMQP URL of a RabbitMQ that the tests may fill and empty; its vhost should be theirs alone."""
    url = os.environ.get(LIVE_BROKER)
    if not url:
        pytest.skip(f"no RabbitMQ to compare with: {LIVE_BROKER} is not set")
    return url
