"""The bytes that one client is to be sent."""

from __future__ import annotations

from collections.abc import Callable

from pamqp import base

from waybill.broker import methods


class Output:
    """What waits for one client's socket.

    Args:
        buffer: bytes that may wait before the client's consumers get no more; they go on at half of it.
        on_first: called when there is something to write where there was nothing.

    Attributes:
        room: bytes of a body that fit into one frame for this client.
        unsent: bytes written and not yet with the operating system.
        is_backed_up: whether the client reads too slowly to be given more deliveries.
    """

    __slots__ = ("_buffer", "_on_first", "_pieces", "is_backed_up", "room", "unsent")

    def __init__(self, buffer: int, on_first: Callable[[], None]) -> None:
        self._buffer = buffer
        self._on_first = on_first
        self._pieces: list[bytes] = []
        self.room = 0
        self.unsent = 0
        self.is_backed_up = False

    def write(self, data: bytes) -> None:
        """Have bytes written."""
        if not self._pieces:
            self._on_first()
        self._pieces.append(data)
        self.unsent += len(data)
        if self.unsent > self._buffer:
            self.is_backed_up = True

    def write_method(self, method: base.Frame, number: int) -> None:
        """Have a method written on a channel."""
        self.write(methods.encode(method, number))

    def take(self) -> bytes:
        """What is to be written, in one piece."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def sent(self, waiting: int) -> bool:
        """Note that so many bytes are still waiting for the client to read.

        Returns:
            Whether deliveries had to wait and may go on.
        """
        self.unsent = waiting
        if not self.is_backed_up or waiting > self._buffer // 2:
            return False
        self.is_backed_up = False
        return True
