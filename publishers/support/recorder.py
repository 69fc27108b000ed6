"""What this process publishes: told by Celery's own signal, with what the broker returns."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from amqp.exceptions import ChannelError
from celery.signals import before_task_publish
from kombu import Exchange

from waybill.celery_app.publication import Publication

# AMQP's reply code of a message that no queue takes.
NO_ROUTE = 312

# The confirm of a returned message comes when the call has raised already. py-amqp logs that as a warning.
logging.getLogger("amqp").setLevel(logging.ERROR)


@contextmanager
def published() -> Iterator[list[Publication]]:
    """The tasks that are published within the block, complete when the block has ended.

    A call with `mandatory=True` and confirms raises when no queue takes its message. That ends the block, and is a
    part of what is noted.
    """
    noted: list[Publication] = []

    def note(  # with all that Celery hands to Kombu
        sender: str,
        exchange: str | Exchange,
        routing_key: str,
        headers: Mapping[str, Any],
        properties: Mapping[str, Any],
        **_: Any,
    ) -> None:
        noted.append(
            Publication(
                exchange=exchange.name if isinstance(exchange, Exchange) else exchange or "",
                routing_key=routing_key or "",
                headers=headers,
                priority=properties.get("priority"),
                expiration=properties.get("expiration"),
                task=sender,
                task_id=headers["id"],
            )
        )

    before_task_publish.connect(note, weak=False)
    try:
        yield noted
    except ChannelError as error:
        if error.reply_code != NO_ROUTE:
            raise
        noted[-1] = replace(noted[-1], is_returned=True)
    finally:
        before_task_publish.disconnect(note)
