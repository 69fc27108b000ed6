"""One call of one task, as somebody wishes it on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task

import exchanges
from publishers.support.results import outcome
from publishers.support.stage import Stage
from waybill.errors import InputError
from waybill.explain import explain_task
from worker.app import app


def call_one(stage: Stage, name: str, arguments: Sequence[str], options: Mapping[str, Any]) -> None:
    """Publish a task and show who got it and its result; what can't work is refused before it is published.

    Args:
        arguments: each JSON, or else text.
        options: of `apply_async`, the exchange by its name.

    Raises:
        InputError: there is no such task, queue or exchange, or the task takes other arguments.
    """
    explain_task(app, name, options)
    task, args = app.tasks[name], [_value(text) for text in arguments]
    refuse_arguments(task, args)
    types = {exchange.name: exchange.type for exchange in exchanges.EXCHANGES}
    if "exchange" in options:
        options = {**options, "exchange_type": types[options["exchange"]]}
    with stage.recording():
        task.apply_async(args, **options, mandatory=True)
    (delivery,) = stage.show()
    sent = delivery.publication
    if any(not receipt.is_discarded for receipt in delivery.received) and not task.ignore_result:
        returned = outcome(app.AsyncResult(sent.task_id), propagate=False)
        is_error = isinstance(returned, Exception)
        happened = f"{type(returned).__name__}: {returned}" if is_error else json.dumps(returned)
        stage.tell("result", happened, task_id=sent.task_id)


def refuse_arguments(task: Task[Any, Any], args: Sequence[Any]) -> None:
    """Refuse what the task doesn't take, as `apply_async` does.

    Raises:
        InputError: too many, or too few.
    """
    try:
        task.__header__(*args)
    except TypeError as error:
        raise InputError(f"arguments of {task.name!r}: {error}") from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
