"""What every kind of description comes to: services, each with the words of its command and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
"""Bytes of one description. The largest compose files in public have some 100 KB."""

MAX_NESTING = 100
"""Mappings and lists inside one another: none that a person wrote comes near."""


class CannotRead(Exception):
    """A service that can't be read, with the reason; the others are read all the same."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service, process or container, as described.

    Attributes:
        words: the program and its arguments; empty where the description leaves it to the image.
        script: a shell's script in place of them, as in a Procfile.
        environment: the variables that the description sets.
        folder: where the description is; scripts are looked for below it.
        image: what it runs in, to know which services belong together.
        has_own_host: it runs in a container of its own.
        copies: how many of it run.
        reason: why it can't be read, where that is known already.
    """

    name: str
    words: tuple[str, ...] = ()
    script: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    image: str = ""
    has_own_host: bool = True
    copies: int = 1
    reason: str = ""
    source: str = ""
