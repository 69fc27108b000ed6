"""Why no queue took a message: what the application declares, and what of it the message doesn't fit.

Only the application's own declarations are known here: what exists on the broker may differ, and then that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from celery import Celery

from waybill.celery_app.broker_url import vhost_of
from waybill.celery_app.declared import from_celery
from waybill.errors import TopologyError, WaybillError
from waybill.routing import Router
from waybill.topology import Message

NOT_FOUND = 404

MAX_BINDINGS = 3
"""Bindings of an exchange that are named."""


class Declared:
    """The application's declarations, read when they are first asked for."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    @cached_property
    def _router(self) -> Router | None:
        """None where the declarations can't be read, or RabbitMQ would refuse one: then they say nothing."""
        try:
            return Router.of(from_celery(self._app, vhost=vhost_of(self._app)))
        except WaybillError:
            return None

    def why_unroutable(self, exchange: str, routing_key: str, headers: Mapping[str, Any] | None) -> str:
        """In a few words; empty where the declarations say nothing."""
        if self._router is None:
            return ""
        try:
            trace = self._router.trace(Message(exchange, routing_key, headers or {}))
        except TopologyError as error:
            return f"the application declares {error}" if error.reply_code == NOT_FOUND else ""
        if trace.queues:
            return f"the application declares {_named(trace.queues)} for it: missing or not bound on the broker"
        attempts = trace.root.attempts
        reasons = [f"{one.binding.destination}: {one.reason}" for one in attempts[:MAX_BINDINGS]]
        if not exchange:
            return attempts[0].reason if attempts else ""
        if not reasons:
            return f"the application binds nothing to exchange {exchange!r}"
        more = f" (and {len(attempts) - MAX_BINDINGS} more)" if len(attempts) > MAX_BINDINGS else ""
        return f"bindings that the application declares: {'; '.join(reasons)}{more}"


def _named(queues: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in queues)
