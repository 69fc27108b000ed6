"""The house's rules that code can be held to: imports run one way, and the embedded broker knows nothing of Celery."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.programs import ROOT

# The way of a message, which is the order of the rooms: each imports only from rooms above it, and from its own.
ROOMS = (
    ("errors",),
    ("topology",),
    ("matching",),
    ("routing",),
    ("broker",),
    ("celery_app",),
    ("rabbitmq",),
    ("testing",),
    ("receipts",),
    ("publishing",),
    ("explain",),
    ("check",),
    ("diff",),
    ("live",),
    ("cli",),
    ("pytest_plugin",),
    ("__init__", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted((ROOT / "waybill").rglob("*.py"))
NAMES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}

# Where tests stand: by what they need. What they share stands in tests/support, programs in tools.
FOLDERS = {"unit", "broker", "rules", "workers", "pages"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "waybill").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules that a file names in its imports, wherever they stand in it: for the type checker, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "waybill":
            found |= {f"waybill.{name.name}" for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{name.name}" for name in node.names}
            found |= {name if name in NAMES else node.module for name in inside}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    for name in imported(path):
        top, _, rest = name.partition(".")
        assert top not in ("exchanges", "publishers", "worker", "tests", "tools"), f"{path.name} imports the showcase"
        if top == "waybill" and rest:
            room = rest.partition(".")[0]
            assert LEVEL[room] < LEVEL[room_of(path)] or room == room_of(path), f"{path.name} imports {name}"


def test_no_files_know_each_other_in_a_circle() -> None:
    """Within a room, too, there is an order: what two files need of each other belongs into one, or below both."""
    TopologicalSorter({name: imported(path) for name, path in NAMES.items()}).prepare()  # its error names the circle


def test_the_embedded_broker_names_its_files_in_their_order() -> None:
    package = ROOT / "waybill" / "broker"
    order = re.findall(r"(\w+)\.py", (package / "__init__.py").read_text(encoding="utf-8"))
    assert sorted(order) == sorted(path.stem for path in package.glob("*.py") if path.stem != "__init__")
    for place, name in enumerate(order):
        below = {f"waybill.broker.{one}" for one in order[place:]}
        assert not imported(package / f"{name}.py") & below, f"{name}.py imports a file that stands after it"


def test_the_embedded_broker_loads_no_celery() -> None:
    code = "import sys, waybill.broker; print([name for name in ('celery', 'kombu') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_only_those_with_sockets_import_asyncio() -> None:
    assert {path.name for path in MODULES if "asyncio" in imported(path)} == {
        "serving.py",
        "server.py",
        "broker.py",
        "live.py",
    }


def test_every_test_stands_in_one_of_the_folders() -> None:
    modules = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py")]
    assert {path.parts[0] for path in modules} == {*FOLDERS, "support", "__init__.py", "conftest.py"}
    # The modules of one of them share a fleet, by fixtures of their own.
    folders = {*map(Path, FOLDERS), Path("workers", "showcase")}
    assert {path.parent for path in modules if path.name.startswith("test_")} == folders
    assert not list((ROOT / "tools").rglob("test_*.py"))


def test_a_file_of_rules_names_their_codes_in_its_first_line() -> None:
    for path in (ROOT / "waybill" / "check").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        codes = sorted(set(re.findall(r'^    "(WB\d+)",$', text, re.MULTILINE)))
        named: set[int] = set()
        for first, last in re.findall(r"WB(\d+)(?: to WB(\d+))?", text.partition("\n")[0]):
            named |= set(range(int(first), int(last or first) + 1))
        assert sorted(f"WB{code}" for code in named) == codes, path.name
