"""Recent-history exchanges: a fanout that remembers, and tells each new binding what it has missed.

After RabbitMQ's plugin rabbitmq_recent_history_exchange: `x-recent-history-length` messages, 20 unless given; a
message with the header `x-recent-history-no-store` true is passed on and not kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from waybill.broker.message import Message
from waybill.broker.properties import headers_of
from waybill.topology.values import Exchange

TYPE = "x-recent-history"
DEFAULT_LENGTH = 20


class Home(Protocol):
    """What histories need around them."""

    def hold(self, message: Message) -> None:
        """A message is remembered."""

    def release(self, message: Message) -> None:
        """A message is forgotten."""


class Histories:
    """What the recent-history exchanges of one vhost remember.

    Args:
        home: told of each message that is remembered.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._kept: dict[str, deque[Message]] = {}

    def __bool__(self) -> bool:
        return bool(self._kept)

    def declared(self, exchange: Exchange) -> None:
        """Note a new exchange."""
        if exchange.type == TYPE:
            length = exchange.arguments.get("x-recent-history-length", DEFAULT_LENGTH)
            self._kept[exchange.name] = deque(maxlen=length)

    def deleted(self, name: str) -> None:
        """Forget an exchange."""
        for message in self._kept.pop(name, ()):
            self._home.release(message)

    def of(self, name: str) -> tuple[Message, ...]:
        """What an exchange remembers, oldest first."""
        return tuple(self._kept.get(name, ()))

    def keep(self, exchanges: Iterable[str], message: Message) -> None:
        """Keep a message that was routed by these exchanges in those that remember."""
        if _is_not_kept(message):
            return
        for name in exchanges:
            kept = self._kept.get(name)
            if kept is None or not kept.maxlen:
                continue
            if len(kept) == kept.maxlen:
                self._home.release(kept.popleft())
            kept.append(message)
            self._home.hold(message)


def _is_not_kept(message: Message) -> bool:
    field = headers_of(message.header).get("x-recent-history-no-store")
    return field is not None and field.value is True
