"""Which libraries an application has loaded, by the import statements of its own modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from waybill.testing.workers import libraries
from waybill.testing.workers.libraries import Loaded, loaded_by

# the application's files -> the libraries that are loaded for it, by their packages
PROJECTS: tuple[tuple[Mapping[str, str], set[str]], ...] = (
    ({"shop_app/__init__.py": "import json"}, {"json"}),
    ({"shop_app/__init__.py": "def late():\n    from wsgiref import util"}, {"wsgiref"}),
    ({"shop_app/__init__.py": "from . import models", "shop_app/models.py": "import sqlite3.dbapi2"}, {"sqlite3"}),
    ({"shop_app/__init__.py": "from shop_app.models import row", "shop_app/models.py": "import csv\nrow = 1"}, {"csv"}),
    ({"shop_app/__init__.py": "import shop_lib", "shop_lib/__init__.py": "import cmd"}, {"cmd"}),
    ({"shop_app/__init__.py": "import json\ntry:\n    import nosuch\nexcept ImportError: pass"}, {"json"}),
    ({"shop_app/__init__.py": "", "shop_app/tests/__init__.py": "import pytest"}, set()),
    ({"shop_app/__init__.py": "", "shop_app/test_it.py": "import pytest", "shop_app/conftest.py": ""}, set()),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported, and are forgotten again."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith("shop_"):
            del sys.modules[name]


@pytest.mark.parametrize(("files", "packages"), PROJECTS)
def test_what_its_modules_import(project: Path, files: Mapping[str, str], packages: set[str]) -> None:
    for name, text in files.items():
        (project / name).parent.mkdir(exist_ok=True, parents=True)
        (project / name).write_text(text)
    for name in files:
        importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    for package in packages:
        if package == "wsgiref":  # imported within a function, which nobody has called
            importlib.import_module("wsgiref.util")
    found = loaded_by(["shop_app:app"])
    assert {name.partition(".")[0] for name in found.libraries} == packages
    assert "shop_app" in found.own
    assert not any(name.startswith("shop_") for name in found.libraries)


def test_a_name_may_end_with_an_attribute(project: Path) -> None:
    (project / "shop_one.py").write_text("import json\ncelery = None")
    importlib.import_module("shop_one")
    assert loaded_by(["shop_one.celery"]).own == ("shop_one",)


def test_an_application_that_is_not_loaded_says_nothing() -> None:
    assert loaded_by(["shop_nosuch", "shop_nosuch.app:app"]) == Loaded()


def test_nothing_is_loaded_before_what_patches_the_standard_library(project: Path) -> None:
    (project / "shop_green.py").write_text("import json\ntry:\n    import gevent\nexcept ImportError: pass")
    module = importlib.import_module("shop_green")
    modules = {"shop_green": module, "json": sys.modules["json"], "gevent": sys.modules["json"]}
    assert loaded_by(["shop_green"], modules) == Loaded()


def test_an_installed_application_is_no_library(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "FOLDERS", (*libraries.FOLDERS, project.resolve()))
    (project / "shop_installed.py").write_text("import csv")
    importlib.import_module("shop_installed")
    found = loaded_by(["shop_installed:app"])
    assert found.own == ("shop_installed",)
    assert "csv" in found.libraries
    assert "shop_installed" not in found.libraries
