"""The messages of one queue that wait for a consumer, in the order in which they will leave.

Three laws of order, measured on RabbitMQ 4.3:

- Higher priorities first. A classic queue has `x-max-priority` + 1 of them, a quorum queue 32.
- A message returned to a classic queue goes back to its own place among those of its priority.
- A message returned to a quorum queue goes before all that were never delivered, behind those returned earlier.

Every operation costs the same however many messages wait: a deque for each priority in use, a heap for the few
that came back, and one integer whose highest bit names the highest priority in use.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush, merge

from waybill.broker.message import Message


class Entry:
    """One message's stay in one queue.

    Args:
        position: where in the order of publication it stands.
        expires_at: the clock's seconds at which it expires, None for never.
        priority: in this queue, so already cut to what the queue knows.

    Attributes:
        acquired: deliveries from this queue so far.
        failures: those that count against a delivery limit, and those in the queues it was dead-lettered from.
        was_seen: it is a dead letter whose deliveries have failed before, and this queue looks at that.
    """

    __slots__ = ("acquired", "expires_at", "failures", "message", "position", "priority", "was_seen")

    def __init__(self, message: Message, position: int, priority: int = 0, expires_at: float | None = None) -> None:
        self.message = message
        self.position = position
        self.priority = priority
        self.expires_at = expires_at
        self.acquired = 0
        self.failures = message.failures
        self.was_seen = False

    @property
    def is_redelivered(self) -> bool:
        """The flag on its next delivery."""
        return self.acquired > 0 or self.was_seen

    def __lt__(self, other: Entry) -> bool:
        return self.position < other.position


class _Level:
    """The messages of one priority."""

    __slots__ = ("fresh", "returned")

    def __init__(self) -> None:
        self.fresh: deque[Entry] = deque()
        self.returned: list[Entry] = []

    def head(self) -> Entry:
        """The next to leave; there is one."""
        if not self.returned:
            return self.fresh[0]
        if not self.fresh or self.returned[0] < self.fresh[0]:
            return self.returned[0]
        return self.fresh[0]

    def pop(self) -> Entry:
        """Take the next to leave; there is one."""
        if not self.returned:
            return self.fresh.popleft()
        if not self.fresh or self.returned[0] < self.fresh[0]:
            return heappop(self.returned)
        return self.fresh.popleft()

    def __len__(self) -> int:
        return len(self.fresh) + len(self.returned)


class Ready:
    """The waiting messages of a classic queue."""

    __slots__ = ("_levels", "_used", "count", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self._levels: dict[int, _Level] = {0: _Level()}
        self._used = 0

    def add(self, entry: Entry) -> None:
        """Put a message that has just come behind the others of its priority."""
        self._level(entry.priority).fresh.append(entry)
        self._count(entry)

    def requeue(self, entry: Entry) -> None:
        """Put a message that had been delivered back."""
        heappush(self._level(entry.priority).returned, entry)
        self._count(entry)

    def head(self) -> Entry | None:
        """The next to leave, None when nothing waits."""
        if not self.count:
            return None
        return self._levels[self._used.bit_length() - 1].head()

    def pop(self) -> Entry:
        """Take the next to leave.

        Raises:
            KeyError: nothing waits.
        """
        return self._pop_of(self._used.bit_length() - 1)

    def _pop_of(self, priority: int) -> Entry:
        level = self._levels[priority]
        entry = level.pop()
        if not level:
            self._used &= ~(1 << priority)
        self.count -= 1
        self.size -= self.size_of(entry.message)
        return entry

    def pop_due(self, now: float) -> Entry | None:
        """Take a message that has expired and may go: in a classic queue only the next to leave."""
        head = self.head()
        return self.pop() if head is not None and _is_due(head, now) else None

    def next_due(self) -> float | None:
        """When there will be one, None for never."""
        head = self.head()
        return None if head is None else head.expires_at

    @staticmethod
    def size_of(message: Message) -> int:
        """What a message counts for `x-max-length-bytes`: in a classic queue its body."""
        return len(message.body)

    def entries(self) -> list[Entry]:
        """Everything, in the order in which it would leave; it stays."""
        levels = [self._levels[priority] for priority in sorted(self._levels, reverse=True)]
        return [entry for level in levels for entry in merge(sorted(level.returned), level.fresh)]

    def clear(self) -> list[Entry]:
        """Take everything."""
        return [self.pop() for _ in range(self.count)]

    def _level(self, priority: int) -> _Level:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
        self._used |= 1 << priority
        return level

    def _count(self, entry: Entry) -> None:
        self.count += 1
        self.size += self.size_of(entry.message)


class QuorumReady(Ready):
    """The waiting messages of a quorum queue: what came back leaves first, in the order it came back."""

    __slots__ = ("_returned",)

    def __init__(self) -> None:
        super().__init__()
        self._returned: deque[Entry] = deque()

    @staticmethod
    def size_of(message: Message) -> int:
        """What a message counts for `x-max-length-bytes`: in a quorum queue its body and its properties."""
        return len(message.body) + message.properties_size

    def entries(self) -> list[Entry]:
        """Everything, in the order in which it would leave; it stays."""
        return [*self._returned, *super().entries()]

    def requeue(self, entry: Entry) -> None:
        """Put a message that had been delivered back, before all others."""
        self._returned.append(entry)
        self._count(entry)

    def head(self) -> Entry | None:
        """The next to leave, None when nothing waits."""
        return self._returned[0] if self._returned else super().head()

    def pop(self) -> Entry:
        """Take the next to leave; there is one."""
        if not self._returned:
            return super().pop()
        entry = self._returned.popleft()
        self.count -= 1
        self.size -= self.size_of(entry.message)
        return entry

    def pop_due(self, now: float) -> Entry | None:
        """Take a message that has expired: the head of each priority may go, and the first that came back."""
        if self._returned and _is_due(self._returned[0], now):
            return self.pop()
        for priority, level in self._levels.items():
            if level and _is_due(level.head(), now):
                return self._pop_of(priority)
        return None

    def next_due(self) -> float | None:
        """When there will be one, None for never."""
        heads = [level.head() for level in self._levels.values() if level]
        if self._returned:
            heads.append(self._returned[0])
        return min((head.expires_at for head in heads if head.expires_at is not None), default=None)


def _is_due(entry: Entry, now: float) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now
