"""A real worker that receives and doesn't run: it sends a receipt for each message, acknowledges it, and that is all.

The worker is the fleet's own: its command, its queues, its application and its tasks. Only what Celery calls with a
message is replaced. What a test states of a task (`outcomes.py`) reaches the worker as a command of Celery's remote
control.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.control import control_command
from kombu.message import Message as KombuMessage

from waybill.testing.outcomes import COMMAND, Outcome
from waybill.testing.receipts import DISCARDED, ENDED, RECEIVED, ReceiptSender, has_expired
from waybill.testing.stand_ins import StatedOutcomes

# Seconds after which an idle worker looks whether it is to end.
TICK = 0.2

_LOGGER = logging.getLogger(__name__)


class Receiving(ReceiptSender):
    """The part of the worker that takes each message, in place of the tasks' own strategies."""

    gather = 0.0

    def start(self, consumer: Consumer) -> None:
        super().start(consumer)
        # A worker that has no neighbours and sends no heartbeats sleeps until a message comes, through a SIGTERM too.
        consumer.timer.call_repeatedly(TICK, _nothing)

    def strategy(self, consumer: Consumer, _strategy: Callable[..., Any]) -> Callable[..., Any]:
        if not hasattr(consumer, "waybill_outcomes"):
            consumer.waybill_outcomes = StatedOutcomes(consumer.app, consumer.hostname)

        def receive(message: KombuMessage, body: Mapping[str, Any] | None, *_: object, **__: object) -> None:
            told = message.headers if body is None else body  # a message of the older protocol has no headers
            task = (told["id"], told["task"])
            if has_expired(told.get("expires")):
                self.send(consumer, DISCARDED, message, task, reason="expired")
                message.ack_log_error(_LOGGER, consumer.connection_errors)
                return
            self.send(consumer, RECEIVED, message, task)
            if happened := consumer.waybill_outcomes.end(message, consumer.connection_errors):
                self.send(consumer, ENDED, message, task, happened=list(happened))

        return receive


def _nothing() -> None:
    """Wake the event loop."""


@control_command(name=COMMAND)
def state_outcomes(state: Any, outcomes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """From now on these tasks end so; called by `Watch.reject` and its like."""
    state.consumer.waybill_outcomes.replace({name: Outcome(**given) for name, given in outcomes.items()})
    return {"ok": "stated"}
