"""What became of a task that was published in a batch.

| state     | means                                                  | known by                          | again?      |
| --------- | ------------------------------------------------------ | --------------------------------- | ----------- |
| confirmed | the broker has it, in at least one queue               | ack of its tag, no return before  | no          |
| returned  | no queue took it                                       | basic.return, then its ack        | after a fix |
| nacked    | a queue was full (`reject-publish`), or had no quorum  | nack of its tag                   | yes         |
| refused   | the broker refuses the message, its exchange or queue  | the channel closed: 403, 404, 406 | after a fix |
| unsent    | never written, or skipped by the broker                | what was written, and the channel | yes         |
| unknown   | written, and the connection went before its confirm    | connection lost, or timeout       | risky       |

RabbitMQ nacks a message when one of its queues rejects it: of several queues, the others may have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from celery.canvas import Signature

State: TypeAlias = Literal["confirmed", "returned", "nacked", "refused", "unsent", "unknown"]

CONFIRMED: State = "confirmed"
RETURNED: State = "returned"
NACKED: State = "nacked"
REFUSED: State = "refused"
UNSENT: State = "unsent"
UNKNOWN: State = "unknown"

STATES = (CONFIRMED, RETURNED, NACKED, REFUSED, UNSENT, UNKNOWN)

SAFE_TO_RETRY = (RETURNED, NACKED, UNSENT)
"""States in which another try may help, and a task that goes to one queue isn't there twice."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task that was published with `bulk_publish`.

    Attributes:
        task_id: the task's id.
        signature: the task, its arguments and options: the one given to `add`, or one made of the message.
        state: "confirmed": a queue has it. "returned", "refused" and "unsent": no queue has it. "nacked": a queue
            rejected it; if it goes to several queues, others may have it. "unknown": it was written, and the
            connection was lost or `timeout` ran out before the broker's answer.
        reason: the broker's words and what follows from them; empty for a confirmed task.

    Example:
        >>> from celery import Celery
        >>> from waybill import Outcome
        >>> signature = Celery("shop").signature("shop.report")
        >>> Outcome("6a1c", signature, "nacked", "the broker rejected it").state
        'nacked'
    """

    task_id: str
    signature: Signature
    state: State
    reason: str = ""
