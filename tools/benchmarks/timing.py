"""Timing and the rows that come of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

REPEATS = 3
"""Each measurement is the best of so many: on a shared machine the others only ever add."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        ours, reference: in `unit`; the reference is None where it isn't there to be measured.
        goal: what was promised, in words.
        is_reached: whether it was kept; None where the reference is missing.
    """

    subject: str
    ours: float
    unit: str
    against: str = ""
    reference: float | None = None
    goal: str = ""
    is_reached: bool | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the reference's speed ours is."""
        return self.ours / self.reference if self.reference else None

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self) | {"ratio": self.ratio}


def compared(subject: str, ours: float, against: str, reference: float | None, least: float) -> Row:
    """A row whose goal is a ratio."""
    reached = None if reference is None else ours / reference >= least
    return Row(subject, ours, "per second", against, reference, f"at least {least:g}x", reached)


def per_second(
    work: Callable[[Any], object], items: Iterable[Any], prepare: Callable[[], object] | None = None
) -> float:
    """How many of `items` are worked on in a second, at best; `prepare` runs before each time, untimed."""
    todo = list(items)
    best = float("inf")
    for _ in range(REPEATS):
        if prepare is not None:
            prepare()
        gc.collect()
        started = time.perf_counter()
        for item in todo:
            work(item)
        best = min(best, time.perf_counter() - started)
    return len(todo) / best
