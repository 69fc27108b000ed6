"""How a test says that a task ends, without running it. What brings it about is in stand_ins.py."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# The command of Celery's remote control by which a worker is told.
COMMAND = "waybill_state"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task does instead of its body.

    Attributes:
        kind: `reject`, `fail`, `retry` or `succeed`.
        times: for how many receptions of one message.
        requeue: a rejected message goes back to its queue.
        countdown: seconds until the retry is due.
        result: what the task returns.
    """

    kind: str
    times: int = 1
    requeue: bool = False
    countdown: float = 0
    result: Any = None

    def to_json(self) -> dict[str, Any]:
        """As it is sent to a worker."""
        return asdict(self)
