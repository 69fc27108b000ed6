"""One task, all the way: what Celery publishes for it, which queues that reaches and why, and who consumes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery

from waybill import publication
from waybill.celery_topology import from_celery
from waybill.dead_letters import DeadLettering
from waybill.errors import UnknownName
from waybill.fleet import Fleet
from waybill.prediction import message_of
from waybill.publication import Publication
from waybill.routing import Router
from waybill.topology import Queue
from waybill.tracing import Trace, plain

# The options that decide where a task goes, in the order in which they are told.
ROUTING_OPTIONS = ("queue", "exchange", "exchange_type", "routing_key", "priority", "expires", "countdown", "headers")

CALL = "the call"
DECORATOR = "the task's decorator"
DEFAULTS = "the defaults"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the publication, and who set it.

    Attributes:
        source: the call, the task's decorator, an entry of `task_routes`, a queue's declaration, or the defaults.
    """

    name: str
    value: Any
    source: str

    def to_json(self) -> dict[str, Any]:
        return {"option": self.name, "value": plain(self.value), "source": self.source}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A queue that the message reaches.

    Attributes:
        consumers: the workers that consume it; None when no fleet is known.
        unconsumed: where the message goes when nobody takes it: it expires, is rejected, or stays.
    """

    queue: Queue
    level: int
    consumers: tuple[str, ...] | None
    unconsumed: tuple[DeadLettering, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "queue": self.queue.name,
            "type": self.queue.type,
            "priority": self.level,
            "workers": None if self.consumers is None else list(self.consumers),
            "dead_letters": [letter.to_json() for letter in self.unconsumed],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole way of one task.

    Attributes:
        options: what decided the publication, with its source.
        remarks: what Celery does with the options and a reader wouldn't expect.
        arrivals: the queues in which the message ends, after any native delay.
    """

    publication: Publication
    options: tuple[Option, ...]
    remarks: tuple[str, ...]
    trace: Trace
    arrivals: tuple[Arrival, ...]

    def to_json(self) -> dict[str, Any]:
        sent = self.publication
        return {
            "task": sent.task,
            "exchange": sent.exchange,
            "routing_key": sent.routing_key,
            "headers": plain(dict(sent.headers)),
            "priority": sent.priority,
            "expiration": sent.expiration,
            "options": [option.to_json() for option in self.options],
            "remarks": list(self.remarks),
            **self.trace.to_json(),
            "arrivals": [arrival.to_json() for arrival in self.arrivals],
        }
