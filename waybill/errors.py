"""The errors that waybill raises, and the exit codes of its commands.

    WaybillError                 what every error below is; on the command line one line and its exit code
    ├── InputError               a file, an argument or a setting that cannot be used as it stands
    │   ├── UnknownName          a name that nothing declares, with the nearest one that something does
    │   └── RouterFailed         a router of the application's own raises an error
    ├── TopologyError            a declaration that RabbitMQ would refuse, in RabbitMQ's words
    ├── BrokerUnavailable        nothing answers at the broker's address, or it answers with a refusal
    │   ├── NotFound             the management API knows nothing of that name
    │   └── NotAllowed           the management API doesn't show that to this user
    ├── ProtocolRefusal          the embedded broker's refusal of what a client sent, as RabbitMQ words it
    ├── BulkPublishError         tasks that were published in a batch, and aren't all confirmed
    └── FleetError               a worker that cannot be described, started or heard
        ├── WorkerEnded          a worker that has ended by itself, with the end of its log
        └── WorkersSilent        workers that run, and say nothing within the time they have

Exit codes, for every command: 0 all is well, 1 the command found what it looks for (a publisher's message that no queue
took, or that went otherwise than predicted; a publication that RabbitMQ would refuse), 2 it could not do its work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import ClassVar, Protocol

EXIT_OK = 0
EXIT_FINDINGS = 1
EXIT_FAILED = 2


class WaybillError(Exception):
    """The base class of the errors that Waybill raises; `str()` of one is a line for a person.

    Attributes:
        exit_code: that of a command which it ends.

    Example:
        >>> from celery import Celery
        >>> from waybill import WaybillError, explain_task
        >>> try:
        ...     explain_task(Celery("shop"), "shop.reprot")
        ... except WaybillError as error:
        ...     print(error)
        no task 'shop.reprot' in the application 'shop'
    """

    exit_code: ClassVar[int] = EXIT_FAILED


class InputError(WaybillError):
    """A file, an argument or a setting that cannot be used as it stands."""


class RouterFailed(InputError):
    """A router of the application's own raises an error: it may need the arguments of the call."""


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
        argument: the argument or property in which two declarations of one name differ; None for other refusals.
    """

    def __init__(self, reply_code: int, text: str, argument: str | None = None) -> None:
        super().__init__(text)
        self.reply_code = reply_code
        self.text = text
        self.argument = argument


class BrokerUnavailable(WaybillError):
    """Nothing answers at the broker's address, or what answers refuses us."""


class NotFound(BrokerUnavailable):
    """The management API knows nothing of that name: no such vhost, binding or page."""


class NotAllowed(BrokerUnavailable):
    """The management API doesn't know this user, or doesn't show that to somebody of its tags."""


REPLY_NAMES = {
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
    313: "NO_CONSUMERS",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
"""AMQP's reply codes and the names that stand before RabbitMQ's sentences (rabbit_framing)."""

CHANNEL_REPLIES = frozenset({311, 313, 403, 404, 405, 406})
"""The codes that close the channel; every other closes the connection."""

MAX_REPLY_TEXT = 255
"""Bytes of a reply's text: a short string. RabbitMQ cuts a longer one and ends it with three dots."""


class ProtocolRefusal(WaybillError):
    """What the embedded broker answers a client with that asked for something it cannot have.

    Args:
        reply_code: one of AMQP's, see `REPLY_NAMES`.
        text: RabbitMQ's sentence without the code's name before it; empty where RabbitMQ says no more.
        method: the class and method ids at fault as one number, 0 where no method is.
    """

    def __init__(self, reply_code: int, text: str = "", method: int = 0) -> None:
        super().__init__(text)
        self.reply_code = reply_code
        self.text = text
        self.method = method

    @property
    def closes_connection(self) -> bool:
        """Whether the connection is closed, and not just the channel."""
        return self.reply_code not in CHANNEL_REPLIES

    @property
    def reply_text(self) -> str:
        """The text as it goes over the wire."""
        whole = f"{REPLY_NAMES[self.reply_code]} - {self.text}" if self.text else REPLY_NAMES[self.reply_code]
        data = whole.encode("utf-8", "surrogateescape")
        if len(data) <= MAX_REPLY_TEXT:
            return whole
        return data[: MAX_REPLY_TEXT - 3].decode("utf-8", "ignore") + "..."


class Published(Protocol):
    """What an outcome of `bulk_publish` says."""

    @property
    def task_id(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def reason(self) -> str: ...


class BulkPublishError(WaybillError):
    """Tasks that were published with `bulk_publish`, and that aren't all confirmed.

    Attributes:
        outcomes: those of all tasks, in order.
        failures: those that aren't confirmed.

    Example:
        >>> from celery import Celery
        >>> from waybill import BulkPublishError, Outcome
        >>> signature = Celery("shop").signature("shop.report")
        >>> print(BulkPublishError([
        ...     Outcome("6a1c", signature, "confirmed"),
        ...     Outcome("77b0", signature, "nacked", "a queue is full"),
        ... ]))
        1 of 2 tasks not confirmed: 1 nacked; the first is 77b0, nacked: a queue is full
    """

    def __init__(self, outcomes: Sequence[Published]) -> None:
        self.outcomes = tuple(outcomes)
        self.failures = tuple(one for one in outcomes if one.state != "confirmed")
        states = Counter(one.state for one in self.failures)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        message = f"{len(self.failures)} of {len(self.outcomes)} tasks not confirmed: {counts}"
        if self.failures:
            first = self.failures[0]
            message += f"; the first is {first.task_id}, {first.state}: {first.reason}"
        super().__init__(message)


class FleetError(WaybillError):
    """A worker that cannot be described, started or heard."""


class WorkerEnded(FleetError):
    """A worker that has ended by itself.

    Args:
        name: its node name without the host.
        code: its exit code.
        lines: the last ones that it wrote.
    """

    def __init__(self, name: str, code: int | None, lines: Sequence[str]) -> None:
        super().__init__(f"worker {name!r} ended with exit code {code}: " + " | ".join(lines))
        self.name = name
        self.code = code
        self.lines = tuple(lines)


class WorkersSilent(FleetError):
    """Workers that run, and say nothing within the time they have.

    Args:
        message: what was waited for.
        workers: their node names without the host.
    """

    def __init__(self, message: str, workers: Iterable[str]) -> None:
        super().__init__(message)
        self.workers = tuple(dict.fromkeys(workers))
