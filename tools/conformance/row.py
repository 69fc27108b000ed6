"""Write a case as the row that it would be in tests/support/cases, ready to be pasted."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from tests.support.cases.case import Case, Outcome, Refusal
from waybill.topology.fields import FieldTable


def as_row(case: Case) -> str:
    """Python source of the case, what has its default value left out."""
    lines = [f"    claim={case.claim!r},", f"    source={case.source!r},"]
    for name in ("declare", "publish", "deaths"):
        items = getattr(case, name)
        if items:
            lines += [f"    {name}=(", *(f"        {written(item)}," for item in items), "    ),"]
    lines.append(f"    expect={written(case.expect)},")
    return "\n".join(["Case(", *lines, ")"])


def written(value: Any) -> str:
    """`repr`, but a record without its defaults and a table as the dict that makes it."""
    if isinstance(value, FieldTable):
        return repr(dict(value))
    if isinstance(value, Outcome):
        return _outcome(value)
    if not is_dataclass(value):
        return repr(value)
    given = (f"{one.name}={written(getattr(value, one.name))}" for one in fields(value) if not _is_default(value, one))
    return f"{type(value).__name__}({', '.join(given)})"


def _is_default(record: Any, one: Any) -> bool:
    default = one.default_factory() if one.default_factory is not MISSING else one.default
    return bool(default is not MISSING and getattr(record, one.name) == default)


def _outcome(outcome: Outcome) -> str:
    parts = []
    if outcome.queues:
        parts.append(f"queues={dict(outcome.queues)!r}")
    if outcome.returned:
        parts.append(f"returned=frozenset({sorted(outcome.returned)!r})")
    if outcome.refused:
        parts.append(f"refused={{{', '.join(f'{what!r}: {_refusal(why)}' for what, why in outcome.refused.items())}}}")
    return f"Outcome({', '.join(parts)})"


def _refusal(refusal: Refusal) -> str:
    return f"Refusal({refusal.code}, {refusal.text!r})"
