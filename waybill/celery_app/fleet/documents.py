"""YAML as values, within bounds: descriptions come from other people's repositories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from waybill.celery_app.fleet.services import MAX_BYTES, MAX_NESTING
from waybill.errors import InputError

MAX_ALIASES = 2_000
"""Uses of anchors in one file. Ten lines that double each other's aliases would be a billion values."""


class Tagged:
    """A value behind one of compose's own tags, `!reset` or `!override`."""

    def __init__(self, tag: str, value: Any) -> None:
        self.tag = tag
        self.value = value


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which counts aliases and nesting and passes over tags that it doesn't know."""

    aliases = 0
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise yaml.YAMLError(f"more than {MAX_ALIASES} aliases")
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise yaml.YAMLError(f"nested more than {MAX_NESTING} deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def any_tag(self, _suffix: str, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            value: Any = self.construct_mapping(node, deep=True)
        elif isinstance(node, yaml.SequenceNode):
            value = self.construct_sequence(node, deep=True)
        else:
            value = self.construct_scalar(node)  # type: ignore[arg-type]
        return Tagged(node.tag, value) if node.tag in ("!reset", "!override") else value


_Loader.add_multi_constructor("!", _Loader.any_tag)


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        InputError: it can't be read, isn't UTF-8, or is larger than any description.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, expected {MAX_BYTES} at most")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


@lru_cache(maxsize=64)
def yaml_documents(text: str, where: str) -> list[Any]:
    """The documents of a YAML file; of the same text the same ones, which nobody changes.

    Raises:
        InputError: it isn't YAML, or beyond the bounds; with the line.
    """
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InputError(f"{where}{line}: not YAML: {problem}") from error
    except (ValueError, TypeError, RecursionError) as error:  # a date that is none, a list as a key
        raise InputError(f"{where}: not YAML: {error}") from error


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings in a list; nothing where it isn't one."""
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else iter(())
