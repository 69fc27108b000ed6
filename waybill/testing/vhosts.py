"""A vhost for the length of a block."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from amqp.exceptions import AccessRefused, NotAllowed
from kombu import Connection

from waybill.errors import BrokerUnavailable
from waybill.rabbitmq.management import Management
from waybill.testing.brokers import Address, open_connection


@contextmanager
def a_vhost(broker: Address) -> Iterator[Address]:
    """A vhost for the length of the block; on Redis, which has none, the database that is named."""
    if not broker.has_vhosts:
        yield broker
        return
    address = broker.with_vhost(f"waybill-{uuid.uuid4().hex[:12]}")
    if address.management_url is None or _is_made_on_connect(address):
        yield address
        return
    with Management(address.management_url, address.vhost) as management:
        management.create_vhost()
        try:
            yield address
        finally:
            management.delete_vhost()


def _is_made_on_connect(address: Address) -> bool:
    """Whether this is the embedded broker, which makes a vhost when somebody connects to it; RabbitMQ answers 530."""
    try:
        with Connection(address.url) as connection:
            open_connection(connection, address.url)
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, (NotAllowed, AccessRefused)):
            return False
        raise
    return True
