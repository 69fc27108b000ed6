"""pytest, a debugger and a log print `repr` of whatever is at hand: none of it has a password."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery

from waybill import Broker, Watch, bulk_publish
from waybill.broker.accounts import Accounts
from waybill.broker.node import Node
from waybill.live.source import Source
from waybill.rabbitmq.management import Management
from waybill.testing.brokers import Address

SECRET = "hidden-0815"
URL = f"amqp://me:{SECRET}@127.0.0.1:5672/shop"
API = f"http://me:{SECRET}@127.0.0.1:15672"

MADE: dict[str, Callable[[], object]] = {
    "Address": lambda: Address(URL, API),
    "Address of a vhost": lambda: Address(URL, API).with_vhost("other"),
    "Broker": lambda: Broker(users={"me": SECRET}),
    "Node": lambda: Node({"me": SECRET}),
    "Accounts": lambda: Accounts({"me": SECRET}),
    "Management": lambda: Management(API, "shop"),
    "Source": lambda: Source(URL, API, "shop", may_trace=False),
    "Watch": lambda: Watch(Celery("shop", broker=URL, set_as_current=False), management_url=API),
    "Batch": lambda: bulk_publish(Celery("shop", broker=URL, set_as_current=False)),
}


@pytest.mark.parametrize("name", MADE)
def test_repr_and_str(name: str) -> None:
    made = MADE[name]()
    assert SECRET not in f"{made!r} {made}"
