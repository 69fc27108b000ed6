"""Small bar charts for the terminal: one line of text each, an eighth of a character fine."""

from __future__ import annotations

from collections.abc import Iterable

EIGHTHS = " ▏▎▍▌▋▊▉█"

# Characters of the longest bar.
WIDTH = 20


def bar(value: float, most: float, width: int = WIDTH) -> str:
    """A bar as long as the value's part of the most; what is more than nothing shows at least its smallest piece.

    Args:
        most: the value of the longest bar; what is above it is cut there.
        width: of the longest bar, in characters.
    """
    if value <= 0 or most <= 0:
        return ""
    pieces = max(1, round(min(value / most, 1) * width * 8))
    return EIGHTHS[-1] * (pieces // 8) + EIGHTHS[pieces % 8].strip()


def profile(values: Iterable[int], most: int) -> str:
    """One character for each value, in their order: `█▌▏` is falling."""
    return "".join(bar(value, most, width=1) or EIGHTHS[0] for value in values)
