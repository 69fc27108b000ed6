"""The broker behind all connections: vhosts, users, the clock, the account of memory and the alarm.

No I/O here either. Whoever drives a `Node` sets the clock before each call, writes what the connections in
`take_dirty()` have to send afterwards, and calls `clock.on_time()` when `clock.next_time()` has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from waybill.broker.accounts import Accounts
from waybill.broker.clock import Clock
from waybill.broker.connection import Connection, State
from waybill.broker.limits import DEFAULT_LIMITS, Limits
from waybill.broker.memory import Memory
from waybill.broker.vhost import VHost
from waybill.topology import DEFAULT_VHOST

Users = dict[str, str]
"""User name → password."""


class Node:
    """One broker, as `connection.Home` for its connections.

    Args:
        users: who may log in; by default `guest` with the password `guest`.
        is_traced: each vhost is traced from its beginning.
        vhosts: those that there are; None for `/`, and each other one when it is first opened.
    """

    def __init__(
        self,
        users: Users | None = None,
        limits: Limits = DEFAULT_LIMITS,
        *,
        is_traced: bool = False,
        vhosts: Iterable[str] | None = None,
    ) -> None:
        self.accounts = Accounts({"guest": "guest"} if users is None else users)
        self.limits = limits
        self.is_open = vhosts is None
        self._is_traced = is_traced
        self.clock = Clock()
        self.memory = Memory(limits.queue_bytes)
        self.vhosts: dict[str, VHost] = {}
        self.connections: set[Connection] = set()
        self.dirty: list[Connection] = []
        for name in (DEFAULT_VHOST,) if vhosts is None else vhosts:
            self.add_vhost(name)
        if vhosts is None:
            self.vhosts[DEFAULT_VHOST].description = "Default virtual host"

    @property
    def users(self) -> Mapping[str, str]:
        """User name → password, of those who can log in with one."""
        return self.accounts.passwords

    # vhosts

    def barred(self, user: str, vhost: str) -> str | None:
        """Why a user may not open a vhost, in RabbitMQ's words; None where he may."""
        if vhost in self.vhosts:
            return (
                None if self.accounts.may_open(user, vhost) else f"access to vhost '{vhost}' refused for user '{user}'"
            )
        if vhost and self.is_open and self.accounts.is_given(user):
            return None
        return f"vhost {vhost} not found"  # one without a name is a slip of the URL

    def vhost(self, name: str) -> VHost:
        """A vhost, made when it is first asked for."""
        return self.vhosts.get(name) or self.add_vhost(name)

    def add_vhost(self, name: str, user: str | None = None) -> VHost:
        """Make a vhost.

        Args:
            user: who makes it, and may use it.
        """
        made = self.vhosts[name] = VHost(name, self.clock, self.memory, is_traced=self._is_traced)
        self.accounts.open_vhost(name, user)
        return made

    def delete_vhost(self, name: str) -> None:
        """Delete a vhost with all that is in it, and close its connections."""
        gone = self.vhosts.pop(name)
        self.accounts.close_vhost(name)
        for connection in tuple(self.connections):
            if connection.state is State.RUNNING and connection.agreed.vhost == name:
                connection.force(f"vhost '{name}' is deleted")
        for queue in tuple(gone.queues.values()):
            gone.delete_queue(queue)

    # between connections

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
