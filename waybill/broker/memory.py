"""The account of what all queues hold."""

from __future__ import annotations


class Memory:
    """What the bodies in one broker's queues take.

    Args:
        limit: bytes above which publishers are blocked.

    Attributes:
        held: bytes.
    """

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @property
    def is_alarmed(self) -> bool:
        """Whether the queues hold more than they may."""
        return self.held > self.limit
