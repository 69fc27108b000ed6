"""The broker behind all connections: vhosts, the clock, the timers, the accounts and the alarm.

No I/O here either. Whoever drives a `Node` sets `now` and `wall` before each call, writes what the connections in
`take_dirty()` have to send afterwards, and calls `on_time()` when `next_time()` has come.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

from waybill.broker.limits import DEFAULT_LIMITS, Limits
from waybill.broker.vhost import VHost

if TYPE_CHECKING:
    from waybill.broker.connection import Connection

Users = dict[str, str]
"""User name → password."""


class Node:
    """One broker.

    Args:
        users: who may log in; by default `guest` with the password `guest`.
    """

    def __init__(self, users: Users | None = None, limits: Limits = DEFAULT_LIMITS) -> None:
        self.users: Users = {"guest": "guest"} if users is None else users
        self.limits = limits
        self.vhosts: dict[str, VHost] = {}
        self.connections: set[Connection] = set()
        self.now = 0.0
        self.wall = 0.0
        self.queue_bytes = 0
        self.is_stopping = False
        self._dirty: list[Connection] = []
        self._timers: list[tuple[float, int, object, Callable[[], None]]] = []
        self._wakes: dict[object, tuple[float, int]] = {}
        self._order = count()

    def vhost(self, name: str) -> VHost:
        """A vhost, made when it is first asked for."""
        found = self.vhosts.get(name)
        if found is None:
            found = self.vhosts[name] = VHost(name, self)
        return found

    # output

    def mark_dirty(self, connection: Connection) -> None:
        """A connection has something to write."""
        self._dirty.append(connection)

    def take_dirty(self) -> list[Connection]:
        """The connections that have something to write, each once."""
        dirty, self._dirty = self._dirty, []
        return dirty

    @property
    def has_dirty(self) -> bool:
        """Whether a connection has something to write."""
        return bool(self._dirty)

    # the alarm

    @property
    def is_alarmed(self) -> bool:
        """Whether the queues hold more than they may."""
        return self.queue_bytes > self.limits.queue_bytes

    def check_alarm(self) -> None:
        """Let blocked publishers go on when the queues are below their mark again."""
        if not self.is_alarmed:
            for connection in [one for one in self.connections if one.is_blocked]:
                connection.unblock()

    # time

    def wake_at(self, key: object, when: float, call: Callable[[], None]) -> None:
        """Have `call` called at a time; of several times for one key the earliest counts."""
        known = self._wakes.get(key)
        if known is not None and known[0] <= when:
            return
        order = next(self._order)
        self._wakes[key] = (when, order)
        heappush(self._timers, (when, order, key, call))

    def next_time(self) -> float | None:
        """When `on_time` is to be called next."""
        while self._timers:
            when, order, key, _ = self._timers[0]
            if self._wakes.get(key) == (when, order):  # or it was forgotten, or is asked for earlier by now
                return when
            heappop(self._timers)
        return None

    def on_time(self) -> None:
        """Call what is due."""
        while (when := self.next_time()) is not None and when <= self.now:
            _, _, key, call = heappop(self._timers)
            del self._wakes[key]
            call()

    def forget(self, key: object) -> None:
        """Call nothing for this key any more."""
        self._wakes.pop(key, None)
