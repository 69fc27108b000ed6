"""Which files belong to a project: those below the current folder, and below the folders of its tasks."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from celery import Celery

# Folders of installed packages.
INSTALLED = frozenset({"site-packages", "dist-packages"})

# Folders whose code isn't the project's own, or never runs in earnest.
FOREIGN = INSTALLED | {"node_modules", "venv", "env", "build", "dist", "tests", "test", "__pycache__"}
TESTS = ("test_", "conftest.py", "tests.py")

MAX_FILES = 20_000
"""Python files of one project. CPython itself has some 2,000."""

MAX_BYTES = 1024 * 1024
"""Bytes of one file: what is larger is generated."""


# Where none of these words is in a file, nobody publishes there and no task is defined.
PUBLISHES = (b".delay", b"apply_async", b"send_task", b"chord", b"chain(", b"group(", b".retry", b".replace")
DEFINES = (b".task", b"shared_task", b"periodic_task")
# Code that declares queues or exchanges by itself.
DECLARES = (b".declare(", b"queue_declare(", b"exchange_declare(", b"maybe_declare(")
# Code by which a worker, or a program that is none, consumes queues that no command line names.
CONSUMES = (b".add_consumer(", b"(ConsumerMixin)", b"(ConsumerProducerMixin)")


@dataclass(frozen=True, slots=True)
class Module:
    """A file of the project.

    Attributes:
        name: as it is imported, such as `proj.tasks`.
        shown: its path from the current folder.
        publishes, defines, declares, consumes: it may publish tasks, define some, declare queues or exchanges, consume
            queues by itself.
    """

    name: str
    path: Path
    shown: str
    is_package: bool
    publishes: bool
    defines: bool
    declares: bool
    consumes: bool

    def tree(self) -> ast.Module:
        """Its syntax tree; the same for a file that hasn't changed.

        Raises:
            OSError, ValueError, SyntaxError, MemoryError, RecursionError: it is no Python.
        """
        return _parsed(self.path, self.path.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _parsed(path: Path, _changed: int) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def modules_of(app: Celery, unreadable: list[str]) -> Iterator[Module]:
    """The modules of the application's project; files that can't be read are noted in `unreadable`."""
    seen: set[Path] = set()
    for root, start in _roots(app):
        for path in _files(start):
            if path in seen:
                continue
            seen.add(path)
            shown = os.path.relpath(path)
            try:
                text = path.read_bytes()
            except OSError as error:
                unreadable.append(f"{shown}: {error.strerror}")
                continue
            if len(text) > MAX_BYTES:
                unreadable.append(f"{shown}: more than {MAX_BYTES} bytes")
                continue
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            does = [any(word in text for word in words) for words in (PUBLISHES, DEFINES, DECLARES, CONSUMES)]
            yield Module(".".join(parts[:-1] if is_package else parts), path, shown, is_package, *does)


def _roots(app: Celery) -> Iterator[tuple[Path, Path]]:
    """The folders from which modules are imported, each with what is read of it.

    Below the current folder everything is: a view that no worker imports publishes too. Of packages elsewhere only
    those are that define tasks.
    """
    here = Path.cwd().resolve()
    # `src` layouts: a module's name begins at the folder that is on the path, the innermost first.
    paths = {Path(one).resolve() for one in sys.path if one}
    inner = [one for one in paths if one != here and one.is_relative_to(here) and one.is_dir()]
    for one in sorted(inner, key=lambda one: -len(one.parts)):
        if not FOREIGN & set(one.relative_to(here).parts):
            yield one, one
    yield here, here
    # Tasks of Celery's, and Waybill's own marker, are nobody's project, however the two are installed.
    names = {task.__module__ for task in app.tasks.values() if not str(task.name).startswith(("celery.", "waybill."))}
    for name in sorted(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str) and file.endswith(".py"):
            path = Path(file).resolve()
            root = path.parents[name.count(".") + (path.name == "__init__.py")]
            if not FOREIGN & set(root.parts) and not root.is_relative_to(here):
                top = root / name.partition(".")[0]
                yield root, top if top.is_dir() else path


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    count = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(one for one in folders if _is_own(folder, one))
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith(TESTS):
                count += 1
                if count > MAX_FILES:
                    return
                yield Path(folder, name).resolve()


def _is_own(folder: str, name: str) -> bool:
    """Whether a folder may hold the project's code: no hidden one, no tests, no virtual environment."""
    is_environment = os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
    return not name.startswith(".") and name not in FOREIGN and not is_environment
