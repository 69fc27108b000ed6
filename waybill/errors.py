"""The errors that waybill raises, and the exit codes of its commands.

    WaybillError                 what every error below is; on the command line one line and its exit code
    ├── InputError               a file, an argument or a setting that cannot be used as it stands
    │   └── UnknownName          a name that nothing declares, with the nearest one that something does
    ├── TopologyError            a declaration that RabbitMQ would refuse, in RabbitMQ's words
    ├── BrokerUnavailable        nothing answers at the broker's address, or it answers with a refusal
    └── FleetError               a worker that cannot be described, started or heard

Exit codes, for every command: 0 all is well, 1 the command found what it looks for (a finding, a message that
no queue took), 2 the command could not do its work.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

EXIT_OK = 0
EXIT_FINDINGS = 1
EXIT_FAILED = 2


class WaybillError(Exception):
    """What waybill raises on purpose; `str()` of it is one line for a person."""

    exit_code: ClassVar[int] = EXIT_FAILED


class InputError(WaybillError):
    """A file, an argument or a setting that cannot be used as it stands."""


class UnknownName(InputError):
    """A name that nothing declares.

    Args:
        kind: what was looked for, as the field calls it ("queue", "exchange", "task").
        name: the name as it was given.
        known: the names that would have been right; the nearest one is suggested.
        where: where the name was looked up, for the end of the sentence.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        nearest = get_close_matches(name, sorted(known), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        super().__init__(f"no {kind} {name!r}{f' in {where}' if where else ''}{hint}")
        self.kind = kind
        self.name = name
        self.nearest = nearest[0] if nearest else None


class TopologyError(WaybillError):
    """A declaration that RabbitMQ would refuse.

    Args:
        reply_code: the AMQP reply code that RabbitMQ would answer with (403, 404, 406, ...).
        text: RabbitMQ's own sentence, without the leading `PRECONDITION_FAILED - `.
    """

    def __init__(self, reply_code: int, text: str) -> None:
        super().__init__(text)
        self.reply_code = reply_code
        self.text = text


class BrokerUnavailable(WaybillError):
    """Nothing answers at the broker's address, or what answers refuses us."""


class FleetError(WaybillError):
    """A worker that cannot be described, started or heard."""
