"""Who may decide where a task goes, and Celery's answer to who does.

Each answer is what the installed Celery would publish for an application in which these have their say. Nothing is
sent, and no broker is needed. publishers/celery/precedence.py sends some of it; tools/routing_options_page.py
makes a page of it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from waybill.celery_app import publication
from waybill.celery_app.publication import Publication

TASK = "worker.tasks.work"

EXACT, GLOB, REGEX = TASK, "worker.tasks.*", re.compile(r"worker\.tasks\.w.+")

Routes = list[Any] | dict[Any, Any] | None


def work(label: str = "") -> str:
    """Stands for the task, which the publisher only names."""
    return label


def by_function(name: str, *_: object, **__: object) -> dict[str, str] | None:
    """A router: what it returns is the route, and None leaves the task to the next one."""
    return {"queue": "standalone"} if name == TASK else None


def undecided(*_: object, **__: object) -> None:
    """A router that never knows."""


@dataclass(frozen=True)
class Case:
    """What is said about one task, and by whom.

    Attributes:
        routes: the setting `task_routes` of the publisher.
        decorator: options of the task's decorator.
        call: options of `apply_async`, or of `send_task` where `is_by_name`: then the task is not known here.
    """

    routes: Routes = None
    decorator: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    is_by_name: bool = False

    def application(self) -> Celery:
        """A publisher's application: the showcase's settings, and what this case says."""
        made, _ = self.make()
        return made

    def make(self) -> tuple[Celery, tuple[str, ...]]:
        """The application, and what Celery warned of while it was made, each in one line."""
        made = Celery("precedence", set_as_current=False)
        made.config_from_object("worker.celeryconfig")
        made.conf.task_routes = self.routes
        # The showcase's own tasks are registered in every application of the process: ours comes in place of it.
        made.finalize()
        made.tasks.pop(TASK, None)
        if self.is_by_name:
            return made, ()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            made.task(name=TASK, shared=False, **self.decorator)(work)
        return made, tuple(" ".join(str(one.message).split()) for one in heard)

    def ask(self) -> Publication:
        """What Celery would publish."""
        sent, _ = publication.capture(self.application(), TASK, **self.call)
        return sent


# What an entry of `task_routes` can be, beside a function -> the queue that it names, and its key in a mapping.
QUEUES = {"exact name": "videos", "glob": "tasks", "regular expression": "orders"}
KEYS = {"exact name": EXACT, "glob": GLOB, "regular expression": REGEX}
FUNCTION = "function"


def mapping(kinds: Iterable[str]) -> dict[Any, Any]:
    """One mapping with a route of each kind, in this order."""
    return {KEYS[kind]: {"queue": QUEUES[kind]} for kind in kinds}


def routers(kinds: Iterable[str]) -> list[Any]:
    """A list with a router of each kind, in this order."""
    return [by_function if kind == FUNCTION else mapping([kind]) for kind in kinds]


# Who can name the queue -> the queue that he names. Celery is asked in which order they are heard.
CALL, DECORATOR, DEFAULT = "the call", "the task's decorator", "task_default_queue"
SAYS = {
    DEFAULT: "default",
    FUNCTION: "standalone",
    **QUEUES,
    DECORATOR: "slow",
    CALL: "cleanup",
}


def speaking(who: Collection[str]) -> Case:
    """These say where the task goes, each something else; among the entries of `task_routes` in one order."""
    kinds = [kind for kind in QUEUES if kind in who]
    return Case(
        routes=[*([mapping(kinds)] if kinds else []), *([by_function] if FUNCTION in who else [])],
        decorator={"queue": SAYS[DECORATOR]} if DECORATOR in who else {},
        call={"queue": SAYS[CALL]} if CALL in who else {},
    )


def ranked() -> Iterator[tuple[str, Case]]:
    """Everybody speaks; who is heard falls silent, until only the default is left."""
    who = list(SAYS)
    while who:
        case = speaking(who)
        heard = winner(case, who)
        yield heard, case
        who.remove(heard)


def winner(case: Case, who: Iterable[str]) -> str:
    """Whose queue Celery sends the task to."""
    queue = case.ask().routing_key
    (heard,) = (one for one in who if SAYS[one] == queue)
    return heard


def between(kinds: Sequence[str], is_list: bool) -> str:
    """Which of two routes is taken: one of them, whatever the order, or the one that is written first."""
    first, second = (
        winner(Case(routes=routers(order) if is_list else mapping(order)), kinds) for order in (kinds, kinds[::-1])
    )
    if first == second:
        return first
    return "the first" if first == kinds[0] else "the last"
