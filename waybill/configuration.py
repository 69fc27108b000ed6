"""`[tool.waybill]` in a pyproject.toml: what the command line needn't say each time.

app = "proj"                     as for `waybill -A`
fleet = "docker-compose.yml"     as for `--fleet`

[tool.waybill.ignore]            a finding that is meant to be, with the reason
"WB105:proj.report" = "the key is added by a signal"
"""

from __future__ import annotations

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
    """What stands there; empty where nothing does."""

    app: str | None = None
    fleet: Path | None = None
    ignore: Mapping[str, str] = field(default_factory=dict)


def read_configuration(folder: Path) -> Configuration:
    """The configuration of the project in this folder.

    Raises:
        InputError: the file isn't TOML, or something in it isn't what it should be.
    """
    path = folder / PYPROJECT
    if not path.is_file():
        return Configuration()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{PYPROJECT}: {error}") from error
    tool = document.get("tool", {})
    table = tool.get("waybill", {}) if isinstance(tool, Mapping) else {}
    if not isinstance(table, Mapping):
        raise InputError(f"{PYPROJECT} [tool.waybill]: expected a table, got {table!r}")
    for key in table:
        if key not in KEYS:
            raise UnknownName("key", key, KEYS, f"{PYPROJECT} [tool.waybill]")
    fleet = _text(table, "fleet")
    return Configuration(_text(table, "app"), None if fleet is None else folder / fleet, _ignored(table))


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{PYPROJECT} [tool.waybill]: {key}: expected text, got {value!r}")
    return value


def _ignored(table: Mapping[str, Any]) -> Mapping[str, str]:
    ignored = table.get("ignore", {})
    if not isinstance(ignored, Mapping):
        raise InputError(f'{PYPROJECT} [tool.waybill]: ignore: expected {{CODE = "reason"}}, got {ignored!r}')
    return ignored
