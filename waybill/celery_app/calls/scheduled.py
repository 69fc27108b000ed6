"""The calls of `celery beat`, and how long a task waits for its retry."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from celery import Celery

from waybill.celery_app.calls.values import BEAT, DELAY, DELAYS, OPTIONS, Call
from waybill.errors import InputError


def scheduled_calls(app: Celery) -> tuple[Call, ...]:
    """The calls that `celery beat` makes, with their options.

    Raises:
        InputError: the schedule is no mapping.
    """
    schedule = app.conf.beat_schedule or {}
    if not isinstance(schedule, Mapping):
        raise InputError(f"the setting beat_schedule: expected a mapping from names to entries, got {schedule!r}")
    return tuple(
        Call(f"{BEAT} {name!r}", BEAT, str(entry["task"]), _given(entry.get("options")), *_arguments(entry))
        for name, entry in schedule.items()
        if isinstance(entry, Mapping) and "task" in entry
    )


def _arguments(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    args, kwargs = entry.get("args") or (), entry.get("kwargs") or {}
    return tuple(args) if isinstance(args, list | tuple) else None, kwargs if isinstance(kwargs, Mapping) else None


def _given(options: Any) -> dict[str, Any]:
    given = options if isinstance(options, Mapping) else {}
    return _as_read({name: value for name, value in given.items() if name in (*OPTIONS, *DELAYS)})


def _as_read(options: dict[str, Any]) -> dict[str, Any]:
    """Options with values; an ETA stands as a countdown of `DELAY` seconds."""
    if options.pop("eta", None) is not None:
        options["countdown"] = DELAY
    return {name: value for name, value in options.items() if value is not None}


def retry_delay(task: Any) -> float:
    """Seconds that the task waits for its retry: the most of its calls of `retry`; its default where none says so."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(task.run))))
    except (OSError, TypeError, ValueError, SyntaxError):
        return float(task.default_retry_delay or 0)
    retries = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "retry"
    ]
    delays = [_delay(node.keywords, task.default_retry_delay) for node in retries]
    return float(max(delays, default=task.default_retry_delay or 0))


def _delay(keywords: Iterable[ast.keyword], default: float | None) -> float:
    for keyword in keywords:
        if keyword.arg in DELAYS:
            try:
                given = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return DELAY
            return given if keyword.arg == "countdown" and isinstance(given, int | float) else DELAY
    return default or 0
