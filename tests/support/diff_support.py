"""An application at a vhost of its own: what is predicted of its declarations, and what the broker says to them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Connection
from kombu import Queue as KombuQueue

from tests.support.programs import PATIENCE
from waybill.diff import Place, Plan, declared_by, difference
from waybill.errors import ProtocolRefusal
from waybill.rabbitmq.management import Management
from waybill.rabbitmq.state import LiveFacts, live_facts
from waybill.testing.brokers import Address

PLACE = Place("proj", "http://127.0.0.1:15672")


def application(*queues: KombuQueue, url: str = "amqp://", **settings: Any) -> Celery:
    """An application with these queues and no other: the first is its default."""
    app = Celery("proj", broker=url, set_as_current=False)
    app.conf.update(task_queues=list(queues), task_default_queue=queues[0].name if queues else "celery", **settings)
    return app


def wire_text(error: Any) -> str:
    """What the wire says of a refusal, or of a prediction: 255 bytes at most."""
    if isinstance(error, AMQPError):
        return f"{error.reply_code} {error.reply_text}"
    return f"{error.reply_code} {ProtocolRefusal(error.reply_code, error.text).reply_text}"


@dataclass
class Site:
    """A vhost for one module's rows; each row takes names that no other has."""

    address: Address
    default_type: str = "classic"

    def declare(self, queue: KombuQueue) -> str | None:
        """Declare as a worker does, on a connection of its own; what the wire says where it is refused."""
        with Connection(self.address.url) as connection:
            try:
                queue(connection.channel()).declare()
            except AMQPError as error:
                return wire_text(error)
        return None

    def plan(self, *queues: KombuQueue, **settings: Any) -> Plan:
        """What is predicted of an application with these queues."""
        return difference(declared_by(application(*queues, **settings)), self.live(), PLACE)

    def predicted(self, queue: KombuQueue) -> str | None:
        """The first refusal, as the wire would say it."""
        return next(map(wire_text, self.plan(queue).failures), None)

    def live(self) -> LiveFacts:
        """What lives there, as the management API says."""
        assert self.address.management_url is not None
        with Management(self.address.management_url, self.address.vhost) as management:
            return live_facts(management, self.address.vhost)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """The management API, beside what waybill asks of it."""
        url = f"{self.address.management_url}/api/{path}"
        # Plain HTTP: the certificates that httpx would read for each request are of no use.
        answer = httpx.request(method, url, json=body, timeout=PATIENCE, verify=False)
        answer.raise_for_status()
        return answer.json() if answer.content else None


@contextmanager
def site(broker: Address, default_type: str = "classic") -> Iterator[Site]:
    """A vhost, gone when the block ends."""
    made = Site(broker.with_vhost(f"diff-{uuid.uuid4().hex[:12]}"), default_type)
    made.api("PUT", f"vhosts/{made.address.vhost}", {"default_queue_type": default_type})
    try:
        yield made
    finally:
        made.api("DELETE", f"vhosts/{made.address.vhost}")


def names(items: Sequence[Any]) -> list[str]:
    return [item.name for item in items]
