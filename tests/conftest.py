"""Where the tests find RabbitMQ."""

from __future__ import annotations

import pytest

from waybill.provision import Address


@pytest.fixture(scope="session")
def rabbitmq_url(waybill_broker: Address) -> str:
    """The AMQP URL of a RabbitMQ whose own vhost the tests may fill and empty: the workers' are others."""
    return waybill_broker.url
