"""`[tool.waybill]` in pyproject.toml: it holds for every command, and from a subfolder too."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

from tests.support.programs import Result, call
from waybill.cli.configuration import Configuration, find_configuration

APPLICATION = """
from celery import Celery
from kombu import Queue

app = Celery({main!r}, broker="amqp://", set_as_current=False)
app.conf.task_queues = [Queue("mail"), Queue("reports")]
app.conf.task_default_queue = "mail"

@app.task(name="send", shared=False)
def send(): ...
"""
_numbers = itertools.count()


class Project:
    """A folder with an application, a fleet and a pyproject.toml that names both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = f"configured_{next(_numbers)}"
        self.write(f"{self.module}.py", APPLICATION.format(main="outside"))
        self.write("deploy/Procfile", f"mailer: celery -A {self.module} worker -n mailer@%h -Q mail\n")
        self.write("pyproject.toml", f'[tool.waybill]\napp = "{self.module}"\nfleet = "deploy/Procfile"\n')

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project, whose folder is the current one; nothing of it is found by other ways."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    return Project(tmp_path)


def waybill(*arguments: str) -> Result:
    return call("waybill.cli", *arguments)


def workers_of_mail() -> list[str]:
    """The workers that `topology --json` shows for the queue `mail`."""
    answer = json.loads(waybill("topology", "--json").out)
    (queue,) = (queue for queue in answer["queues"] if queue["name"] == "mail")
    workers: list[str] = queue["workers"]
    return workers


PLACES = (".", "deploy", "src/shop/mail")


@pytest.mark.parametrize("place", PLACES)
def test_application_and_fleet_hold_for_every_command(
    project: Project, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (project.folder / place).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(project.folder / place)
    assert json.loads(waybill("explain", "send", "--json").out)["arrivals"][0]["workers"] == ["mailer"]
    assert workers_of_mail() == ["mailer"]
    assert "⇒ mailer" in waybill("topology").out
    checked = json.loads(waybill("check", "--json").out)
    assert not [row for row in checked["unchecked"] if "--fleet" in row["needs"]]
    for asking in ("diff", "declare"):
        failed = waybill(asking, "--management", "http://127.0.0.1:x")
        assert failed.code == 2
        assert "management API's URL" in failed.complaint


def test_the_fleet_can_be_left_out_and_be_another(project: Project) -> None:
    project.write("Procfile", f"poster: celery -A {project.module} worker -n poster@%h -Q mail\n")
    assert json.loads(waybill("explain", "send", "--json", "--no-fleet").out)["arrivals"][0]["workers"] is None
    assert json.loads(waybill("explain", "send", "--json", "--fleet", "Procfile").out)["arrivals"][0]["workers"] == [
        "poster"
    ]
    assert "⇒" not in waybill("topology", "--no-fleet").out
    needs = [row["needs"] for row in json.loads(waybill("check", "--json", "--no-fleet").out)["unchecked"]]
    assert any("--fleet" in need for need in needs)
    for command in (("explain", "send"), ("topology",), ("check",)):
        refused = waybill(*command, "--fleet", "Procfile", "--no-fleet")
        assert (refused.code, refused.complaint) == (2, "error: --fleet and --no-fleet exclude each other")


def test_a_worker_without_queues_consumes_all_that_the_application_has(project: Project) -> None:
    """Two of one name are a finding of `check`, and no reason to explain nothing."""
    project.write(
        "deploy/Procfile", f"any: celery -A {project.module} worker\nmore: celery -A {project.module} worker\n"
    )
    assert workers_of_mail() == ["celery", "celery"]


@pytest.mark.parametrize("command", [("explain", "send"), ("topology",), ("check",)], ids=" ".join)
def test_a_fleet_that_is_not_there_is_named_with_its_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    (project.folder / "deploy" / "Procfile").unlink()
    monkeypatch.chdir(project.folder / "deploy")
    result = waybill(*command)
    assert (result.code, result.out) == (2, "")
    assert result.complaint == f"error: {project.folder}/deploy/Procfile: cannot be read: No such file or directory"


def test_the_first_file_with_the_table_counts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("src/pyproject.toml", "[tool.other]\nx = 1\n")
    project.write("src/inner/pyproject.toml", "[tool.waybill]\napp = 'inner_app'\n")
    (project.folder / "src" / "inner" / "deep").mkdir()
    assert find_configuration(project.folder / "src").apps == (project.module,)
    assert find_configuration(project.folder / "src").folder == project.folder
    assert find_configuration(project.folder / "src" / "inner" / "deep").apps == ("inner_app",)
    monkeypatch.chdir(project.folder / "src" / "inner" / "deep")
    assert "cannot load the application 'inner_app'" in waybill("topology").complaint


def test_without_a_file_there_is_no_configuration(tmp_path: Path) -> None:
    assert find_configuration(tmp_path) == Configuration()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.waybill", ": Expected ']'"),
        ("[tool.waybill]\nap = 'x'", " [tool.waybill]; did you mean 'app'?"),
        ("[tool.waybill]\napp = 3", " [tool.waybill]: app: expected text or a list of texts, got 3"),
    ],
)
def test_what_is_wrong_in_a_file_further_up_is_named_with_its_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    project.write("pyproject.toml", text)
    monkeypatch.chdir(project.folder / "deploy")
    result = waybill("topology")
    assert (result.code, result.out) == (2, "")
    assert f"{project.folder}/pyproject.toml{said}" in result.complaint


def test_the_application_is_looked_for_where_it_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that pyproject.toml names first in its folder; that of `-A` first in the current one, as for `celery`."""
    project.write(f"src/{project.module}.py", APPLICATION.format(main="inside").replace('"send"', '"inside"'))
    monkeypatch.chdir(project.folder / "src")
    assert waybill("explain", "send").code == 0
    monkeypatch.delitem(sys.modules, project.module)
    assert waybill("-A", project.module, "explain", "inside").code == 0
    monkeypatch.chdir(project.folder / "deploy")
    monkeypatch.delitem(sys.modules, project.module)
    assert waybill("-A", project.module, "explain", "send").code == 0
