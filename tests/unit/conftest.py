"""A unit test opens no socket: whoever tries fails with a sentence that says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

NETWORK = (socket.AF_INET, socket.AF_INET6)
SENTENCE = (
    "a unit test opened a socket: {what} {address!r}; tests with a broker stand in tests/broker, with workers in "
    "tests/workers"
)


class NetworkUsed(BaseException):
    """A socket in a unit test. No `Exception`: code that takes a lost connection for granted must not hide it."""


@pytest.fixture(autouse=True, scope="package")
def no_sockets() -> Iterator[None]:
    """Refuse to connect and to listen."""
    with pytest.MonkeyPatch.context() as patch:
        for what in ("connect", "connect_ex", "bind"):
            patch.setattr(socket.socket, what, _refusing(what, getattr(socket.socket, what)))
        yield


def _refusing(what: str, original: Any) -> Any:
    def refuse(self: socket.socket, address: Any) -> Any:
        if self.family in NETWORK:
            raise NetworkUsed(SENTENCE.format(what=what, address=address))
        return original(self, address)

    return refuse
