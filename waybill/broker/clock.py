"""Time, as whoever drives the broker gives it, and what is to be called when it comes to a moment."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

SPARE_TIMERS = 64
"""Forgotten timers that may stay in the heap beside as many as there are live ones, before they are swept out."""


class Clock:
    """One broker's clock and its timers.

    Attributes:
        now: seconds that only grow, set before each call from outside.
        wall: seconds since 1970, set with it.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.wall = 0.0
        self._timers: list[tuple[float, int, object, Callable[[], None]]] = []
        self._wakes: dict[object, tuple[float, int]] = {}
        self._order = count()

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
        if len(self._timers) > 2 * len(self._wakes) + SPARE_TIMERS:  # queues come and go long before their times do
            self._timers = [one for one in self._timers if self._wakes.get(one[2]) == one[:2]]
            heapify(self._timers)

    def clear(self) -> None:
        """Call nothing any more that was asked for until now."""
        self._timers.clear()
        self._wakes.clear()
