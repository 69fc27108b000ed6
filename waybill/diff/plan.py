"""The difference between the declarations and the broker, as values: to create, refused, left over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from waybill.errors import REPLY_NAMES
from waybill.rabbitmq.management import LiveBinding
from waybill.topology import Binding, Exchange, Queue
from waybill.topology.fields import plain

Item = Exchange | Queue | Binding


@dataclass(frozen=True, slots=True)
class Failure:
    """A declaration that the broker would refuse.

    Attributes:
        text: RabbitMQ's sentence, whole; the wire carries 255 bytes of it.
        argument: the argument or property that differs, None for another reason.
        declared, live: its two values; None where one side hasn't got it.
        remedies: what to do instead, each as lines: what it is, then commands or code.
    """

    item: Item
    reply_code: int
    text: str
    argument: str | None = None
    declared: Any = None
    live: Any = None
    remedies: tuple[tuple[str, ...], ...] = ()

    @property
    def sentence(self) -> str:
        """As a client logs it: `406 PRECONDITION_FAILED - inequivalent arg ...`."""
        return f"{self.reply_code} {REPLY_NAMES[self.reply_code]} - {self.text}"

    def to_json(self) -> dict[str, Any]:
        return {
            **described(self.item),
            "reply_code": self.reply_code,
            "reply_name": REPLY_NAMES[self.reply_code],
            "text": self.text,
            "argument": self.argument,
            "declared": plain(self.declared),
            "live": plain(self.live),
            "remedies": [list(lines) for lines in self.remedies],
        }


@dataclass(frozen=True, slots=True)
class OrphanQueue:
    """A queue that exists on the broker and isn't declared.

    Attributes:
        messages: as the broker counted them some seconds ago.
        bindings: what still feeds it.
    """

    queue: Queue
    messages: int
    consumers: int
    bindings: tuple[LiveBinding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        counts = {"messages": self.messages, "consumers": self.consumers}
        return {**described(self.queue), **counts, "bindings": [described(one.binding) for one in self.bindings]}


@dataclass(frozen=True, slots=True)
class OrphanExchange:
    """An exchange that exists on the broker and isn't declared, with the number of bindings that lead out of it."""

    exchange: Exchange
    bindings: int

    def to_json(self) -> dict[str, Any]:
        return {**described(self.exchange), "bindings": self.bindings}


KINDS = ("create", "refused", "unmade", "undeclared")
"""The kinds of difference: `+`, `!`, `?` and `-` of the text."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the next worker start would do to the vhost, and what it would leave alone.

    Attributes:
        create: in the order in which it is declared; queues as the vhost's default type makes them.
        stale: bindings into what is declared, that no declaration makes.
        default_type: what a queue becomes that names no type.
        unmade: declared exchanges and queues that don't exist, and that no worker of the fleet would create.
    """

    vhost: str
    default_type: str = "classic"
    create: tuple[Item, ...] = ()
    failures: tuple[Failure, ...] = ()
    stale: tuple[LiveBinding, ...] = ()
    queues: tuple[OrphanQueue, ...] = ()
    exchanges: tuple[OrphanExchange, ...] = ()
    unmade: tuple[Exchange | Queue, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the declarations and the broker are the same."""
        return not self.kinds

    @property
    def kinds(self) -> frozenset[str]:
        """Of which of `KINDS` there are differences."""
        undeclared = (*self.stale, *self.queues, *self.exchanges)
        found = dict(zip(KINDS, (self.create, self.failures, self.unmade, undeclared), strict=True))
        return frozenset(kind for kind, items in found.items() if items)

    def without(self, unbound: tuple[LiveBinding, ...]) -> Plan:
        """The plan when these bindings are gone."""
        gone = {one.path for one in unbound}
        return replace(self, stale=tuple(one for one in self.stale if one.path not in gone))

    def to_json(self) -> dict[str, Any]:
        return {
            "vhost": self.vhost,
            "default_queue_type": self.default_type,
            "create": [described(item) for item in self.create],
            "fail": [failure.to_json() for failure in self.failures],
            "unmade": [described(item) for item in self.unmade],
            "undeclared": [
                *(described(binding.binding) for binding in self.stale),
                *(queue.to_json() for queue in self.queues),
                *(exchange.to_json() for exchange in self.exchanges),
            ],
        }


def described(item: Item) -> dict[str, Any]:
    """A declaration as JSON."""
    if isinstance(item, Binding):
        ends = {"source": item.source, "destination": item.destination, "destination_type": item.destination_type}
        return {"kind": "binding", **ends, "binding_key": item.binding_key, "arguments": plain(item.arguments)}
    fields = {"name": item.name, "durable": item.durable, "auto_delete": item.auto_delete}
    if isinstance(item, Exchange):
        return {"kind": "exchange", **fields, "type": item.type, "arguments": plain(item.arguments)}
    return {"kind": "queue", **fields, "type": item.type, "arguments": plain(item.arguments)}
