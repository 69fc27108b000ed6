"""The broker behind all connections: vhosts, the clock, the account of memory and the alarm.

No I/O here either. Whoever drives a `Node` sets the clock before each call, writes what the connections in
`take_dirty()` have to send afterwards, and calls `clock.on_time()` when `clock.next_time()` has come.
"""

from __future__ import annotations

from waybill.broker.clock import Clock
from waybill.broker.connection import Connection
from waybill.broker.limits import DEFAULT_LIMITS, Limits
from waybill.broker.memory import Memory
from waybill.broker.vhost import VHost

Users = dict[str, str]
"""User name → password."""


class Node:
    """One broker, as `connection.Home` for its connections.

    Args:
        users: who may log in; by default `guest` with the password `guest`.
        is_traced: each vhost is traced from its beginning.
    """

    def __init__(self, users: Users | None = None, limits: Limits = DEFAULT_LIMITS, *, is_traced: bool = False) -> None:
        self.users: Users = {"guest": "guest"} if users is None else users
        self.limits = limits
        self._is_traced = is_traced
        self.clock = Clock()
        self.memory = Memory(limits.queue_bytes)
        self.vhosts: dict[str, VHost] = {}
        self.connections: set[Connection] = set()
        self.dirty: list[Connection] = []

    def vhost(self, name: str) -> VHost:
        """A vhost, made when it is first asked for."""
        found = self.vhosts.get(name)
        if found is None:
            found = self.vhosts[name] = VHost(name, self.clock, self.memory, is_traced=self._is_traced)
        return found

    def restart(self, *, is_durable_kept: bool) -> None:
        """Start again, after the last connection has gone: with what is durable, or with nothing."""
        if is_durable_kept:
            for vhost in self.vhosts.values():
                vhost.forget_transient()
            return
        self.vhosts.clear()
        self.clock.clear()
        self.memory.held = 0

    def take_dirty(self) -> list[Connection]:
        """The connections that have something to write."""
        dirty, self.dirty = self.dirty, []
        return dirty

    def check_alarm(self) -> None:
        """Let blocked publishers go on when the queues are below their mark again."""
        if not self.memory.is_alarmed:
            for connection in [one for one in self.connections if one.is_blocked]:
                connection.unblock()
