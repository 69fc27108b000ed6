"""Who may log in, as what, and which vhosts they may open."""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from waybill.errors import ProtocolRefusal

What = Literal["configure", "write", "read"]

ADMINISTRATOR = "administrator"
MONITORING = "monitoring"
MANAGERS = frozenset({ADMINISTRATOR, MONITORING, "policymaker", "management"})
"""Tags with one of which a user may use the management API."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What a user may do in a vhost: regular expressions for the names of what he changes, writes to and reads.

    Each is found anywhere in a name; the empty one only in the empty name. Without a permission the vhost stays closed.
    """

    configure: str = ".*"
    write: str = ".*"
    read: str = ".*"


NOTHING = Permission("", "", "")
"""What is left when a permission is taken away from a user who is connected."""


class Rights:
    """What one user may do in one vhost, by the permission that he has at that moment.

    Args:
        accounts: of the broker.
    """

    __slots__ = ("_accounts", "_user", "_vhost")

    def __init__(self, accounts: Accounts, user: str, vhost: str) -> None:
        self._accounts = accounts
        self._user = user
        self._vhost = vhost

    def check(self, what: What, kind: str, name: str) -> None:
        """Refuse what the user may not do.

        Args:
            kind: `queue` or `exchange`.

        Raises:
            ProtocolRefusal: 403, in RabbitMQ's words.
        """
        permission = self._accounts.permissions.get((self._vhost, self._user), NOTHING)
        pattern: str = getattr(permission, what)
        name = name if name or kind == "queue" else "amq.default"
        if pattern == ".*" or re.search(pattern or "^$", name):
            return
        raise ProtocolRefusal(
            403, f"{what} access to {kind} '{name}' in vhost '{self._vhost}' refused for user '{self._user}'"
        )


class Accounts:
    """The users of one broker.

    Args:
        given: name → password of those who are there from the beginning: administrators, with all permissions in
            each vhost.

    Attributes:
        passwords: user name → password, of those who can log in with one.
        tags: user name → tags, of all users.
        permissions: by vhost and user.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self.passwords = dict(given)
        self.tags: dict[str, tuple[str, ...]] = dict.fromkeys(given, (ADMINISTRATOR,))
        self.permissions: dict[tuple[str, str], Permission] = {}
        self._given = tuple(given)
        self._hashes: dict[str, str] = {}

    def open_vhost(self, vhost: str, user: str | None = None) -> None:
        """A vhost is new: those given at the beginning may do all there, and so may the user who made it."""
        for name in (*self._given, *([user] if user is not None else ())):
            if name in self.tags:
                self.permissions.setdefault((vhost, name), Permission())

    def close_vhost(self, vhost: str) -> None:
        """A vhost is gone."""
        self.permissions = {key: one for key, one in self.permissions.items() if key[0] != vhost}

    def put(self, name: str, password: str | None, tags: tuple[str, ...]) -> bool:
        """A user is made or changed; returns whether he is new."""
        is_new = name not in self.tags
        self.tags[name] = tags
        self._hashes.pop(name, None)
        if password:
            self.passwords[name] = password
        else:
            self.passwords.pop(name, None)
        return is_new

    def delete(self, name: str) -> None:
        """A user is gone, with his permissions."""
        del self.tags[name]
        self.passwords.pop(name, None)
        self._hashes.pop(name, None)
        self.permissions = {key: one for key, one in self.permissions.items() if key[1] != name}

    def rights(self, user: str, vhost: str) -> Rights:
        """What the user may do in the vhost, now and later."""
        return Rights(self, user, vhost)

    def is_given(self, user: str) -> bool:
        """Whether the user was there from the beginning."""
        return user in self._given

    def may_open(self, user: str, vhost: str) -> bool:
        """Whether the vhost is open to the user."""
        return (vhost, user) in self.permissions

    def hash_of(self, name: str) -> str:
        """The password as RabbitMQ shows it: a salt, and the SHA-256 of salt and password; empty without a password."""
        password = self.passwords.get(name)
        if password is None:
            return ""
        known = self._hashes.get(name)
        if known is None:
            salt = secrets.token_bytes(4)
            known = b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
            self._hashes[name] = known
        return known
