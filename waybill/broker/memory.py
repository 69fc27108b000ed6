"""The account of what clients make the broker keep."""

from __future__ import annotations

ENTRY = 128
"""Bytes that a message takes beside its body, in each queue that holds it: measured for an empty one."""


class Memory:
    """What one broker keeps: messages in queues, in transactions and histories, incomplete bodies, unread answers.

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
        """Whether more is kept than may be."""
        return self.held > self.limit
