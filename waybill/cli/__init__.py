"""The command line: `waybill ...`, and the same as `celery -A proj waybill ...`.

    group.py          the command `waybill`; it loads a command when that one is invoked
    commands/         one file for each command; parameters.py has the options that several of them take
    application.py    which application, configuration and fleet a command is about
    configuration.py  `[tool.waybill]` in pyproject.toml
    rendering.py      trees and maps as text        terminal.py  printing
    running.py        a command as a program: errors, exit codes, signals
    status.py         what takes time               ending.py    Ctrl-C and SIGTERM

Celery loads the entry point in every one of its commands. So this file and `group` import only click and the standard
library, and `status` and `ending`, which are used before anything is installed, only the standard library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waybill.cli.group import celery_command, program, waybill

__all__ = ["celery_command", "program", "waybill"]


def __getattr__(name: str) -> Any:
    """The entry points, from `waybill.cli.group`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from waybill.cli import group

    return getattr(group, name)
