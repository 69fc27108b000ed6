"""Entries of `task_routes` and `beat_schedule` that match no task: WB116, WB124."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from waybill.celery_app.calls.values import BEAT
from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, nearest

COMPARISONS = 5_000
"""Pairs of an entry of `task_routes` and a task that are compared for a misspelling, some 20 microseconds each."""

MISSPELT = 0.85
"""How alike an entry must be to a task's name: settings that several applications share have entries for others."""

SHOWN = 5
"""Entries of `task_routes` in one sentence; `--json` gives all."""

Entry = str | re.Pattern[str]
"""A key of `task_routes`: a task's name, a glob, or a regular expression that matches from a name's beginning."""

# The beginning of a glob that stands for itself.
_LITERAL = re.compile(r"[^*?\[]*")


@rule(
    "WB116",
    "An entry of `task_routes` matches no task, or an entry of `beat_schedule` names none",
    Severity.WARNING,
    any_broker=True,
    symptom="A task with a route goes elsewhere, or a scheduled task never runs.",
    cause="An exact name wins, then the first glob or regular expression in order. `*` also matches dots. A task's name"
    " begins with its module, so a short name matches nothing. `celery beat` sends any name, and a worker "
    "discards a task that it has not registered.",
    failing="""
app.conf.task_routes = {"proj.*": {"queue": "all"}, "proj.videos.*": {"queue": "videos"}}

@app.task(name="proj.videos.encode")
def encode(): ...
""",
    fixed="""
app.conf.task_routes = {"proj.videos.*": {"queue": "videos"}, "proj.*": {"queue": "all"}}

@app.task(name="proj.videos.encode")
def encode(): ...

@app.task(name="proj.clean")
def clean(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/routing.html#automatic-routing",
)
def dead_route(facts: Facts) -> Iterator[Found]:
    own = [task.name for task in facts.app.own_tasks()]
    if not own:
        return
    # Celery routes its own tasks, such as the end of a chord, like all others.
    tasks = [*own, *(name for name in facts.app.tasks if name not in set(own))]
    layers = _layers(facts.app.conf.task_routes)
    won = {task: _winner(layers, task) for task in tasks}
    winners = set(won.values())
    names, idle = frozenset(tasks), list[Entry]()
    for key in (key for layer in layers for key in layer):
        if key in winners:
            continue
        among = [key] if isinstance(key, str) and key in names else tasks
        taken = next((task for task in among if _takes(key, task)), None)
        first = (won[taken] or taken) if taken is not None else None
        if first is None:
            idle.append(key)
        # A wider entry behind a narrower one is for the rest, of which there is nothing yet.
        elif not (isinstance(first, str) and _takes(key, first)):
            written, before = _written(key), _written(first)
            yield Found(
                (written, before),
                f"`{before}` comes first and shadows `{written}` for `{taken}`, and every other task that it matches",
                f"put {key!r} before {first!r} in task_routes",
            )
    yield from _matching_nothing(idle, tasks)
    yield from _scheduled_for_nobody(facts, own)


def _scheduled_for_nobody(facts: Facts, tasks: Sequence[str]) -> Iterator[Found]:
    for call in facts.app.calls:
        if call.method == BEAT and call.task not in facts.app.tasks:
            near = _meant(call.task, tasks)
            yield Found(
                (call.task,),
                f"beat sends it, and no such task is registered{f'; did you mean `{near}`?' if near else ''}",
                f'"task": "{near}"' if near else "import its module, or take the entry out",
                call.where,
                # The workers of another application may know it.
                severity=None if near else Severity.NOTE,
            )


@rule(
    "WB124",
    "`send_task` names a task that no code defines",
    Severity.ERROR,
    any_broker=True,
    symptom="`Received unregistered task of type ...` in a worker's log, and the task is gone.",
    cause="`send_task` and `signature` accept any name and check nothing. The worker that receives the task "
    "acknowledges and discards it.",
    failing="""
@app.task(name="proj.send_receipt")
def send_receipt(): ...

def later():
    app.send_task("proj.send_reciept")
""",
    fixed="""
@app.task(name="proj.send_receipt")
def send_receipt(): ...

def later():
    app.send_task("proj.send_receipt")
""",
    source="https://docs.celeryq.dev/en/stable/reference/celery.html#celery.Celery.send_task",
)
def sent_to_nobody(facts: Facts) -> Iterator[Found]:
    app = facts.app
    tasks = sorted({*app.tasks, *app.source.defined})
    known = {*tasks, *(name for names in facts.fleet.tasks.values() for name in names)} if facts.fleet else set(tasks)
    known |= {name for other in app.others for name in other.tasks}
    told: set[str] = set()
    for call in app.source.calls:
        if call.task in known or call.task in told:
            continue
        told.add(call.task)
        # A name that is like none of ours is another service's.
        if near := _meant(call.task, tasks):
            yield Found(
                (call.task,),
                f"published by name, and no task of that name is registered or defined here; did you mean `{near}`?",
                f'"{near}"',
                call.where,
            )


def _meant(name: str, tasks: Sequence[str]) -> str | None:
    """The task that was meant: one of that short name, or of nearly that name."""
    short = next((task for task in tasks if task.rpartition(".")[2] == name), None)
    return short or nearest(name, tasks, MISSPELT)


def _matching_nothing(keys: Sequence[Entry], tasks: Sequence[str]) -> Iterator[Found]:
    """The entries that are probably misspelt, each; the others in one note."""
    compared = max(1, COMPARISONS // len(tasks))
    short = {task.rpartition(".")[2]: task for task in reversed(tasks)}
    others: list[str] = []
    for number, key in enumerate(keys):
        if not isinstance(key, str):
            others.append(key.pattern)
            continue
        near = short.get(key) or (nearest(key, tasks, MISSPELT) if number < compared else None)
        if near is None:
            others.append(key)
        else:
            text = f"`{key}` matches no registered task; did you mean `{near}`?"
            # A glob may well be for the tasks of another application that has the same settings.
            severity = Severity.NOTE if "*" in key else None
            yield Found((key,), text, f'task_routes = {{"{near}": ...}}', severity=severity)
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        match = "match" if len(others) > 1 else "matches"
        yield Found(
            tuple(others),
            f"{all_of(others[:SHOWN])}{more} {match} none of the registered tasks",
            f"take {others[0]!r} out, or import the module of its tasks",
            severity=Severity.NOTE,
        )


def _layers(routes: Any) -> list[list[Entry]]:
    """The entries of each router of `task_routes`, in the order in which they're written."""
    return [_keys(layer) for layer in (routes if isinstance(routes, list | tuple) else (routes,))]


def _keys(layer: Any) -> list[Entry]:
    pairs = layer.items() if isinstance(layer, Mapping) else layer if isinstance(layer, list | tuple) else ()
    return [pair[0] for pair in pairs if isinstance(pair, tuple | list) and pair and _is_entry(pair[0])]


def _is_entry(key: Any) -> bool:
    return isinstance(key, str) or (isinstance(key, re.Pattern) and isinstance(key.pattern, str))


def _is_pattern(key: Entry) -> bool:
    return not isinstance(key, str) or "*" in key


def _written(key: Entry) -> str:
    """A name or glob as it stands there; of a regular expression what was compiled."""
    return key if isinstance(key, str) else key.pattern


def _winner(layers: Iterable[Sequence[Entry]], task: str) -> Entry | None:
    """The entry that Celery takes: of each router the exact name first, then globs and regular expressions in order."""
    for keys in layers:
        won = task if task in keys else next((key for key in keys if _is_pattern(key) and _takes(key, task)), None)
        if won is not None:
            return won
    return None


def _takes(key: Entry, task: str) -> bool:
    if not isinstance(key, str):
        return key.match(task) is not None
    if "*" not in key:
        return task == key
    return task.startswith(_LITERAL.match(key)[0]) and fnmatch.fnmatchcase(task, key)  # type: ignore[index]
