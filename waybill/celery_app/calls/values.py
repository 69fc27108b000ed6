"""What was read in a project's source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BEAT = "beat_schedule"
"""The method, as it were, of the calls that `celery beat` makes."""

DELAY = 60
"""Seconds of the countdown that is tried where code gives one that isn't a literal."""

OPTIONS = (
    "queue", "exchange", "exchange_type", "routing_key", "priority", "expires", "headers", "mandatory",
    "confirm_timeout",
)  # fmt: skip
DELAYS = ("countdown", "eta")


@dataclass(frozen=True, slots=True)
class Call:
    """A call in the code of the application that publishes a task.

    Attributes:
        where: `file:line`, or the entry of `beat_schedule`.
        method: `apply_async`, `send_task`, `delay`, `link`, ..., or `BEAT`.
        options: its literal options; a countdown that isn't literal stands as `DELAY`.
        args, kwargs: the task's arguments where all of them are literal; None where they aren't.
        in_chain: it is a link of a chain behind the first: the options of the chain's own call don't reach it.
        chain_options: the options of the chain's call, which went to its first link alone.
    """

    where: str
    method: str
    task: str
    options: Mapping[str, Any]
    args: tuple[Any, ...] | None = ()
    kwargs: Mapping[str, Any] | None = field(default_factory=dict)
    in_chain: bool = False
    chain_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """What of the project's source was read.

    Attributes:
        files: how many.
        calls: those of which the task and all routing options are known.
        not_literal: `file:line` of the other calls.
        unreadable: the files that are no Python, with the reason.
        defined: names of tasks that the source defines, whether their modules are loaded or not.
        mentions: function of Celery's (`chord`) -> where it is used first.
        declares: something in it declares queues or exchanges by itself.
        consumes: the files in which something consumes queues by itself (`add_consumer`, a `ConsumerMixin`).
    """

    files: int = 0
    calls: tuple[Call, ...] = ()
    not_literal: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    defined: frozenset[str] = frozenset()
    mentions: Mapping[str, str] = field(default_factory=dict)
    declares: bool = False
    consumes: tuple[str, ...] = ()

    @property
    def found(self) -> int:
        """How many calls there are, read or not."""
        return len(self.calls) + len(self.not_literal)
