"""A fix in the application's own words: its name as `-A` takes it, and its settings as it writes them."""

from __future__ import annotations

import re

from celery.app.defaults import NAMESPACES, flatten

from waybill.check.facts import Facts

_SETTINGS = frozenset(name.lower() for name, _ in flatten(NAMESPACES))
_NAME = re.compile(r"(?:app\.conf\.)?\b([a-z]+(?:_[a-z]+)+)\b(?!\()")
_COMMAND = "celery -A proj "


def worded(facts: Facts, fix: str) -> str:
    """The fix with `celery -A proj` as the application is called, and its settings with their prefix.

    With a namespace (`config_from_object(..., namespace="CELERY")`, as in Django) Celery reads `CELERY_TASK_ROUTES` and
    not `task_routes`.
    """
    if facts.called:
        fix = fix.replace(_COMMAND, f"celery -A {facts.called} ")
    prefix = facts.app.prefix
    if not prefix:
        return fix
    return _NAME.sub(lambda found: prefix + found[1].upper() if found[1] in _SETTINGS else found[0], fix)
