"""Declarations and names as text for people.

Names and keys come from a definitions file, a broker or an application, and AMQP lets them hold anything: a line break,
an escape sequence that sets a terminal's title, a character that turns the direction of writing. Every line that a
command prints for people passes `printable`; JSON escapes by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from waybill.topology.values import Binding

# What a GitHub workflow takes for a command in the output of a job: `::error::` where a line begins (leading blanks
# don't count), and the older `##[error]` anywhere (actions/runner, ActionCommand.cs).
_WORKFLOW_COMMAND = re.compile(r"^(\s*):(?=:)|##(?=\[)")


def printable(line: str) -> str:
    """The line with every character escaped that would do more than be shown: it stays one line on any terminal."""
    if not line.isprintable():
        line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
    if ":" in line or "#" in line:
        line = _WORKFLOW_COMMAND.sub(_escaped_command, line)
    return line


def _escaped_command(found: re.Match[str]) -> str:
    return r"#\x23" if found[1] is None else rf"{found[1]}\x3a"


def literal(value: Any) -> str:
    """A value as Python code, text in double quotes where that needs no backslash."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(name)}: {literal(one)}" for name, one in value.items()) + "}"
    if isinstance(value, str) and value.isprintable() and not {'"', "\\"} & set(value):
        return f'"{value}"'
    return repr(value)


def exchange_name(name: str) -> str:
    """An exchange's name for people: that of the default exchange is empty."""
    return name or "(default exchange)"


def arguments_label(arguments: Mapping[str, object]) -> str:
    """A declaration's arguments in brackets; nothing where there are none."""
    return f" [{', '.join(f'{name}={value}' for name, value in sorted(arguments.items()))}]" if arguments else ""


def binding_label(binding: Binding, exchange_type: str) -> str:
    """What a binding asks for: its key, or the arguments that a headers exchange compares."""
    if binding.arguments and (exchange_type == "headers" or "x-match" in binding.arguments):
        return "{" + ", ".join(f"{name}: {value}" for name, value in sorted(binding.arguments.items())) + "}"
    return f"`{binding.binding_key}`"
