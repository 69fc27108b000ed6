"""docs/reference/api.md, made of the public names' docstrings: `python -m tools.reference_page` writes it."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import waybill
from tests.support.programs import ROOT

PAGE = ROOT / "docs" / "reference" / "api.md"

INTRODUCTION = """\
# Public API

Import these names from `waybill`. Everything else in the package is internal: it may change with any version. Each name
is imported when it is first used, so that `import waybill` costs next to nothing, and `enable_receipts` loads nothing
beyond Celery and Kombu. This page is made of the docstrings (`python -m tools.reference_page`). A test compares it with
them, and runs every example.
"""

# What is public of a class: its other attributes are internal.
METHODS = {
    "Broker": (
        *("url", "address", "management_url", "management_address", "start", "stop", "restart", "restart_on_loop"),
        "inject",
    ),
    "Router": ("of", "route", "trace", "dead_letters"),
    "Topology": ("from_definitions", "exchange", "queue", "bindings_from"),
    "Watch": (
        *(
            "discover_workers",
            "publish",
            "follow",
            "recording",
            "settle",
            "receipts_of",
            "received_so_far",
            "everything",
        ),
        *("sent", "received", "unroutable", "discarded", "expired", "rejected", "failed", "retried", "dead_lettered"),
        *("reject", "fail", "retry", "succeed", "forget"),
    ),
}

WIDTH = 100
# A longer default is left to the code.
MAX_DEFAULT = 30

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Example):")
ITEM = re.compile(r"(?P<names>\w[\w, ]*): (?P<text>.*)", re.DOTALL)


def page() -> str:
    """The whole page."""
    names = [name for name in waybill.__all__ if not name.startswith("_")]
    contents = "\n".join(f"- [{name}](#{name.lower()}): {summary_of(name)}" for name in names)
    version = f"## \\_\\_version\\_\\_\n\nThe installed version, as text.\n\n{_python(sections_of(waybill)['Example'])}"
    return "\n".join([INTRODUCTION, contents + "\n", *("\n".join(_entry(name)) for name in names), version])


def summary_of(name: str) -> str:
    """The first line of a name's docstring."""
    return inspect.getdoc(getattr(waybill, name)).splitlines()[0]  # type: ignore[union-attr]


def sections_of(found: Any) -> Mapping[str, str]:
    """The sections of a docstring, each dedented, under their names; what stands before them under an empty one."""
    parts: dict[str, list[str]] = {"": []}
    at = ""
    for line in (inspect.getdoc(found) or "").splitlines():
        if head := SECTION.fullmatch(line):
            at = head[1]
            parts[at] = []
        else:
            parts[at].append(line)
    return {name: inspect.cleandoc("\n".join(["", *lines])) for name, lines in parts.items()}


def _entry(name: str) -> Iterator[str]:
    found = getattr(waybill, name)
    sections = sections_of(found)
    yield f"## {name}\n"
    if not (inspect.isclass(found) and issubclass(found, Exception)):
        yield _python(_signature(name, found))
    yield sections[""] + "\n"
    for title in ("Args", "Attributes", "Returns", "Raises"):
        if title in sections:
            yield from _list(title, sections[title])
    if methods := list(_methods(name)):
        yield "\n".join(["To use of it:\n", *methods]) + "\n"
    yield _python(sections["Example"])


def _signature(name: str, found: Any) -> str:
    signature = inspect.signature(found)
    parameters = list(signature.parameters.values())
    words = [_parameter(one) for one in parameters]
    keywords = [place for place, one in enumerate(parameters) if one.kind is one.KEYWORD_ONLY]
    if keywords and not any(one.kind is one.VAR_POSITIONAL for one in parameters):
        words.insert(keywords[0], "*")
    returned = signature.return_annotation
    returns = "" if inspect.isclass(found) or returned in (signature.empty, "None") else f" -> {returned}"
    line = f"{name}({', '.join(words)}){returns}"
    return line if len(line) <= WIDTH else "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){returns}"])


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    return f"{star}{parameter.name}: {parameter.annotation}{default if len(default) < MAX_DEFAULT else ' = ...'}"


def _list(title: str, text: str) -> Iterator[str]:
    items = [" ".join(item.split()) for item in re.split(r"\n(?! )", text)]
    if not all(ITEM.fullmatch(item) for item in items) or title == "Returns":
        yield f"{title}: {' '.join(items)}\n"
        return
    yield f"{title}:\n"
    yield "\n".join(f"- {_item(item)}" for item in items) + "\n"


def _item(item: str) -> str:
    found = ITEM.fullmatch(item)
    assert found is not None
    return f"{', '.join(f'`{name.strip()}`' for name in found['names'].split(','))}: {found['text']}"


def _methods(name: str) -> Iterator[str]:
    for method in METHODS.get(name, ()):
        found = inspect.getattr_static(getattr(waybill, name), method)
        first = (inspect.getdoc(found) or "").splitlines()[0]
        yield f"- `{method}{_called(found)}`: {first}"


def _called(found: Any) -> str:
    """The names of a method's parameters; nothing for a property."""
    if isinstance(found, property):
        return ""
    parameters = list(inspect.signature(getattr(found, "__func__", found)).parameters.values())[1:]
    return f"({', '.join(f'**{one.name}' if one.kind is one.VAR_KEYWORD else one.name for one in parameters)})"


def _python(code: str) -> str:
    return f"```python\n{code}\n```\n"


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(
        prog="python -m tools.reference_page", description="Write docs/reference/api.md from the docstrings."
    ).parse_args()
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
