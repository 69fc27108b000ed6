"""Which libraries an application has loaded, so that a zygote can load them once for all of its workers.

The starter has usually loaded the application itself, to publish with it. Its own modules are followed by their import
statements; what they import from elsewhere are the libraries. The application's and the tests' own modules are
excluded: each worker has to run the ones itself, and needs none of the others.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

# They must patch the standard library before other modules import it.
PATCHING = frozenset({"gevent", "eventlet"})

FOLDERS = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an application has loaded.

    Attributes:
        libraries: the names of library modules, in the order in which they were loaded.
        own: the top-level names of its own modules.
    """

    libraries: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


def loaded_by(names: Iterable[str], modules: Mapping[str, ModuleType] = sys.modules) -> Loaded:
    """What the modules of these names have loaded here; nothing where they themselves haven't been.

    Args:
        names: as `celery -A` takes them: `proj`, `proj.app:app`.
    """
    named = [name.partition(":")[0] for name in names]
    given = {name.partition(".")[0] for name in named}  # one that is installed is no library all the same
    waiting = [found for name in named for found in _modules(name, modules)]
    own: set[str] = set()
    packages: set[str] = set()
    while waiting:
        name = waiting.pop()
        module = modules.get(name)
        if name in own or module is None:
            continue
        if name.partition(".")[0] not in given and _is_library(module):
            packages.add(name.partition(".")[0])
            continue
        own.add(name)
        waiting += _imported(module)
    if packages & PATCHING:
        return Loaded()
    libraries = [name for name, one in list(modules.items()) if name.partition(".")[0] in packages and _is_library(one)]
    return Loaded(tuple(libraries), tuple(sorted({name.partition(".")[0] for name in own})))


def _modules(name: str, modules: Mapping[str, ModuleType]) -> Iterator[str]:
    """The module of this name, or, since `-A proj.app.celery` may name an attribute, the one that holds it; and what
    stands beside it, where tasks are looked for."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    if name:
        package = name.partition(".")[0]
        yield from (one for one in list(modules) if one.partition(".")[0] == package and not _is_test(one))


def _is_test(name: str) -> bool:
    """Whether a module is the tests', which are no part of the application though they stand in its package."""
    return any(part in ("test", "tests", "conftest") or part.startswith("test_") for part in name.split("."))


def _is_library(module: ModuleType) -> bool:
    origin = getattr(module, "__file__", None)
    return origin is None or any(folder in Path(origin).resolve().parents for folder in FOLDERS)


def _imported(module: ModuleType) -> Iterator[str]:
    """The modules that a module's import statements name, wherever they stand in it."""
    try:
        tree = ast.parse(Path(str(module.__file__)).read_bytes())
    except (OSError, SyntaxError, ValueError):  # compiled, or generated
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            source = ".".join(filter(None, (base if node.level else "", node.module or "")))
            yield source
            yield from (f"{source}.{name.name}" for name in node.names)
