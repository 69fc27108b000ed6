"""What the broker's tests share: the two brokers that one case runs on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.support.wire import Wire
from waybill.broker import Broker

BROKERS = ("embedded", "RabbitMQ")


def broker_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an embedded broker of its own or of RabbitMQ, as the fixture's parameter says."""
    if request.param == "embedded":
        yield from embedded_url()
    else:
        yield request.getfixturevalue("rabbitmq_url")


def broker_wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A client of either broker, its channel 1 open."""
    for url in broker_url(request):
        with Wire(url) as made:
            made.open_channel()
            yield made


def embedded_url() -> Iterator[str]:
    """The address of an embedded broker that lives until the next step of the iterator."""
    with Broker() as broker:
        yield broker.url


def fresh(prefix: str = "q") -> str:
    """A name that no other test has, on a broker that others use too."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"
