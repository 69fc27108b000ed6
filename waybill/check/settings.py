"""Settings that Celery does not know: WB307."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from celery.app.defaults import NAMESPACES, flatten

from waybill.celery_app.private import OLD_SETTINGS
from waybill.check.facts import AppFacts, Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import nearest

# What is written most often for a setting of another name.
MEANT = {
    "broker": "broker_url",
    "backend": "result_backend",
    "routes": "task_routes",
    "queues": "task_queues",
    "default_queue": "task_default_queue",
    "prefetch_multiplier": "worker_prefetch_multiplier",
    "acks_late": "task_acks_late",
}
CLOSE = 0.85
"""How alike a name must be to a setting's: applications keep settings of their own beside Celery's."""

NEW_NAMES = dict(flatten(NAMESPACES))
OLD_NAMES = OLD_SETTINGS.keys() | {old for option in NEW_NAMES.values() for old in getattr(option, "old", ()) or ()}


@rule(
    "WB307",
    "Celery doesn't know a setting",
    Severity.WARNING,
    any_broker=True,
    symptom="A setting has no effect.",
    cause="Celery accepts any name as a setting and reads only the names that it knows. With `namespace='CELERY'`, "
    "every name must begin with `CELERY_`.",
    failing="""
app.conf.update(task_rutes={"proj.*": {"queue": "proj"}})
""",
    fixed="""
app.conf.update(task_routes={"proj.*": {"queue": "proj"}})
""",
    source="https://docs.celeryq.dev/en/stable/userguide/configuration.html#new-lowercase-settings",
)
def unknown_setting(facts: Facts) -> Iterator[Found]:
    for name, value in facts.app.given.items():
        if name.startswith("_") or name == "deprecated_settings" or isinstance(value, type | ModuleType):
            continue
        meant = _meant(facts.app, name)
        if meant is not None:
            yield Found(
                (name,),
                f"Celery doesn't know the setting `{name}` and ignores it; did you mean `{meant}`?",
                f"{meant} = ...",
            )


def _meant(app: AppFacts, name: str) -> str | None:
    """The setting that an unknown name was probably meant for; None where it is none of Celery's."""
    if name in NEW_NAMES or name in OLD_NAMES:
        return None
    prefix = app.prefix
    if not prefix:
        return _bare(name.lower()) or _old(name)
    if name.startswith(prefix):
        bare = name.removeprefix(prefix).lower()
        if bare in NEW_NAMES:
            return None
        found = _bare(bare)
        return f"{prefix}{found.upper()}" if found else None
    old = _old(name)
    found = old or _without_prefix(name)
    written = f"{prefix}{found.upper()}" if found else None
    return None if written in app.given else written


def _bare(name: str) -> str | None:
    """The setting that a lower-case name is, or is like."""
    return name if name in NEW_NAMES else MEANT.get(name) or nearest(name, NEW_NAMES, CLOSE)


def _old(name: str) -> str | None:
    """The setting that a name like one of the old, upper-case ones means, by its new name."""
    near = nearest(name, OLD_NAMES, CLOSE) if name.startswith(OLD_PREFIXES) else None
    return OLD_SETTINGS.get(near) if near else None


def _without_prefix(name: str) -> str | None:
    """The setting whose prefix was forgotten: only names that no other part of an application has."""
    bare = name.lower()
    return bare if bare in NEW_NAMES and bare.startswith(OURS) else None


# How names begin that are Celery's, whatever application they stand in.
OLD_PREFIXES = ("CELERY", "BROKER_")
OURS = ("task_", "worker_", "beat_", "result_", "broker_")
