"""The calls that publish tasks, read in the code of the application: what no task's declaration shows.

Only modules that are loaded and lie below the current folder are read, and only what is certain: a task that the
module knows by that name, where no function has it for one of its own, and options that are literals. A call
with a routing option that isn't one is passed over.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.task import Task

from waybill.celery_app.scopes import calls_in
from waybill.errors import InputError

BEAT = "beat_schedule"
"""The method, as it were, of the calls that `celery beat` makes."""

DELAY = 60
"""Seconds of the countdown that is tried where code gives one that isn't a literal."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call in the code of the application that publishes a task.

    Attributes:
        method: `apply_async`, `send_task`, `delay`, or `BEAT`.
        options: its literal options; a countdown that isn't literal stands as `DELAY`.
    """

    where: str
    method: str
    task: str
    options: Mapping[str, Any]


OPTIONS = ("queue", "exchange", "exchange_type", "routing_key", "priority", "expires", "headers", "mandatory")
DELAYS = ("countdown", "eta")
METHODS = ("apply_async", "send_task", "delay")
MENTIONED = ("chord",)
# What `ast.literal_eval` raises: a list as a key is a TypeError, and what is too deep is one of the last two.
NO_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)
# Folders whose code isn't the application's own.
FOREIGN = frozenset({"site-packages", "dist-packages", ".venv", "venv", "node_modules"})


def read_calls(app: Celery) -> tuple[tuple[Call, ...], Mapping[str, str]]:
    """The calls, and where Celery's functions of `MENTIONED` are used first."""
    calls: list[Call] = []
    mentions: dict[str, str] = {}
    for path, names in _own_modules(Path(os.getcwd())):
        try:
            text = path.read_text(encoding="utf-8")
            if not any(f"{word}(" in text for word in (*METHODS, *MENTIONED)):
                continue
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError):
            continue  # it was loaded, so this is a file that has changed since
        shown = os.path.relpath(path)
        for node, own in calls_in(tree):
            if _first_name(node.func) not in own:
                calls += _calls(app, node, names, shown)
                _note_mention(node, names, shown, mentions)
    return tuple(calls), mentions


def scheduled_calls(app: Celery) -> tuple[Call, ...]:
    """The calls that `celery beat` makes, with their options.

    Raises:
        InputError: the schedule is no mapping.
    """
    schedule = app.conf.beat_schedule or {}
    if not isinstance(schedule, Mapping):
        raise InputError(f"the setting beat_schedule: expected a mapping from names to entries, got {schedule!r}")
    return tuple(
        Call(f"{BEAT} {name!r}", BEAT, str(entry["task"]), _given(entry.get("options")))
        for name, entry in schedule.items()
        if isinstance(entry, Mapping) and "task" in entry
    )


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
    # Where it goes may not be told, and how long it waits can.
    options = _options(keyword for keyword in keywords if keyword.arg in DELAYS) or {}
    given = options.get("countdown", default or 0)
    return given if isinstance(given, int | float) else DELAY


def _own_modules(root: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if not isinstance(name, str) or not name.endswith(".py"):
            continue
        path = Path(name)
        if path.is_relative_to(root) and not FOREIGN & set(path.relative_to(root).parts):
            yield path, vars(module)


def _first_name(node: ast.expr) -> str | None:
    """The name with which a chain of names and dots begins."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _calls(app: Celery, node: ast.Call, names: Mapping[str, Any], shown: str) -> Iterator[Call]:
    method = node.func
    if not isinstance(method, ast.Attribute) or method.attr not in METHODS:
        return
    task = _sent_name(node) if method.attr == "send_task" else _task_name(app, method.value, names)
    options = _options(node.keywords) if method.attr != "delay" else {}
    if task is not None and options is not None:
        yield Call(f"{shown}:{node.lineno}", method.attr, task, options)


def _sent_name(node: ast.Call) -> str | None:
    first = node.args[0] if node.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _task_name(app: Celery, node: ast.expr, names: Mapping[str, Any]) -> str | None:
    try:
        found = _resolved(node, names)
        name = getattr(found, "name", None) if isinstance(found, Task) else None
        return name if name in app.tasks else None
    except Exception:
        return None  # a lazy object that isn't set up yet raises what it likes when it's looked at


def _resolved(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What an expression of names and dots stands for in a module; None for any other."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, names)
        return None if owner is None else vars(owner).get(node.attr) if hasattr(owner, "__dict__") else None
    return None


def _options(keywords: Iterable[ast.keyword]) -> dict[str, Any] | None:
    """The options of a call; None where one of them can't be told."""
    options: dict[str, Any] = {}
    for keyword in keywords:
        if keyword.arg is None:
            return None
        if keyword.arg not in (*OPTIONS, *DELAYS):
            continue
        try:
            value = ast.literal_eval(keyword.value)
        except NO_LITERAL:
            if keyword.arg not in DELAYS:
                return None
            value = DELAY
        options[keyword.arg] = value
    return _as_read(options)


def _note_mention(node: ast.Call, names: Mapping[str, Any], shown: str, mentions: dict[str, str]) -> None:
    word = node.func.id if isinstance(node.func, ast.Name) else ""
    if word in MENTIONED and getattr(names.get(word), "__module__", "").startswith("celery"):
        mentions.setdefault(word, f"{shown}:{node.lineno}")
