"""`[tool.waybill]` in a pyproject.toml: options that hold for every command.

    app = "proj"                     as for `waybill -A`, or a list of names
    fleet = "docker-compose.yml"     as for `--fleet`, relative to the file's folder

    [tool.waybill.ignore]            findings of `check` to ignore, each with the reason
    "WB105:proj.report" = "the key is added by a signal"

The file is the first one with this table in the current folder or in one above it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waybill.errors import InputError, UnknownName

PYPROJECT = "pyproject.toml"
KEYS = ("app", "fleet", "ignore")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the table says; empty without one.

    Attributes:
        folder: of the file; None where there is none. The application is looked for here too.
        apps: the applications, the first of which a command is about.
        fleet: the files that describe the workers, with the folder.
        ignore: a code, or `code:object` -> the reason.
    """

    apps: tuple[str, ...] = ()
    fleet: tuple[Path, ...] = ()
    ignore: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def find_configuration(folder: Path) -> Configuration:
    """The configuration of the project that this folder belongs to.

    Raises:
        InputError: a pyproject.toml on the way cannot be read, or something in the table isn't what it should be.
    """
    for one in (folder, *folder.parents):
        path = one / PYPROJECT
        if not os.path.isfile(path):  # False also where we may not look
            continue
        where = PYPROJECT if one == folder else str(path)
        table = _table(path, where)
        if table is not None:
            return _read(table, one, f"{where} [tool.waybill]", folder)
    return Configuration()


def _table(path: Path, where: str) -> Mapping[str, Any] | None:
    """The table [tool.waybill] of the file; None without it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{where}: {error}") from error
    tool = document.get("tool")
    if not isinstance(tool, Mapping) or "waybill" not in tool:
        return None
    table = tool["waybill"]
    if not isinstance(table, Mapping):
        raise InputError(f"{where} [tool.waybill]: expected a table, got {table!r}")
    return table


def _read(table: Mapping[str, Any], folder: Path, where: str, current: Path) -> Configuration:
    for key in table:
        if key not in KEYS:
            raise UnknownName("key", key, KEYS, where)
    # In the current folder the path is shown as it is written.
    base = Path() if folder == current else folder
    fleet = tuple(base / file for file in _texts(table, "fleet", where))
    return Configuration(tuple(_texts(table, "app", where)), fleet, _ignored(table, where), folder)


def _texts(table: Mapping[str, Any], key: str, where: str) -> list[str]:
    """A text, or a list of them."""
    value = table.get(key, [])
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f"{where}: {key}: expected text or a list of texts, got {value!r}")
    return found


def _ignored(table: Mapping[str, Any], where: str) -> Mapping[str, str]:
    ignored = table.get("ignore", {})
    if not isinstance(ignored, Mapping):
        raise InputError(f'{where}: ignore: expected {{CODE = "reason"}}, got {ignored!r}')
    return ignored
