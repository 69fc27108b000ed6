"""The command `waybill`: what it loads, what its help says, and that it is the same below `celery`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery as celery_program

from tests.support.programs import ROOT, Result, call, module, without_progress
from tools import commands_page
from waybill.cli.group import COMMANDS, waybill

LOADED = """
import sys
before = set(sys.modules)
{code}
print(*sorted(set(sys.modules) - before))
"""


def loaded_by(code: str) -> set[str]:
    """The modules that a piece of code loads in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def packages(modules: set[str]) -> set[str]:
    """The packages that are neither Python's nor ours."""
    return {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"waybill"}


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "waybill"}


def celery(*arguments: str) -> Result:
    """What `celery arguments` does, in this process."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err, pytest.raises(SystemExit) as exit_:
        celery_program.main(arguments, prog_name="celery")
    return Result(int(exit_.value.code or 0), out.getvalue(), without_progress(err.getvalue()))


ENTRY_POINT = ("waybill", "waybill.cli", "waybill.cli.group")


@pytest.mark.parametrize("name", ["program", "celery_command"])
def test_the_entry_point_loads_click_and_nothing_else(name: str) -> None:
    loaded = loaded_by(f"from waybill.cli import {name}")
    assert packages(loaded) == {"click"}
    assert ours(loaded) == set(ENTRY_POINT)


def test_that_is_what_celery_loads() -> None:
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert entries["entry-points"]["celery.commands"] == {"waybill": "waybill.cli:celery_command"}
    assert entries["scripts"] == {"waybill": "waybill.cli:program"}
    assert ours(loaded_by("import celery.bin.celery")) == set(ENTRY_POINT)


def test_celerys_help_loads_no_command_and_shows_ours() -> None:
    code = "from celery.bin.celery import celery; celery(['--help'], standalone_mode=False)"
    assert ours(loaded_by(code)) == set(ENTRY_POINT)
    assert re.search("\n  waybill +Show where every Celery task goes on RabbitMQ.", celery("--help").out)


def test_the_help_of_the_group_loads_no_command() -> None:
    loaded = loaded_by("from waybill.cli.group import waybill; waybill(['--help'], standalone_mode=False)")
    assert packages(loaded) == {"click"}
    assert ours(loaded) == set(ENTRY_POINT)


@pytest.mark.parametrize("name", ["ending", "status"])
def test_signals_and_progress_need_only_the_standard_library(name: str) -> None:
    """They are used before anything is installed."""
    assert packages(loaded_by(f"import waybill.cli.{name}")) == set()


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = waybill.get_command(click.Context(waybill), name)
        assert command is not None
        yield name, command


def test_each_command_has_a_file_and_its_help_in_the_list() -> None:
    files = {path.stem for path in (ROOT / "waybill" / "cli" / "commands").glob("*.py")}
    assert files - {"__init__", "parameters"} == set(COMMANDS)
    for name, command in commands():
        assert command.name == name
        assert (command.help or "").partition("\n")[0] == COMMANDS[name]


def test_the_page_of_the_commands_is_their_help() -> None:
    assert commands_page.PAGE.read_text(encoding="utf-8") == commands_page.page(), "run python -m tools.commands_page"


def test_every_option_has_a_help() -> None:
    for name, command in [("waybill", waybill), *commands()]:
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert (parameter.help or "").endswith("."), f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", [(), *((name,) for name in COMMANDS)], ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(name: tuple[str, ...], option: str) -> None:
    result = call("waybill.cli", *name, option)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: ")
    assert "-h, --help" in result.out


@pytest.mark.parametrize("option", ["-A", "--app"])
def test_the_application_behind_the_command(option: str) -> None:
    result = call("waybill.cli", "check", option, "proj")
    assert (result.code, result.out) == (2, "")
    assert result.complaint.endswith("It stands before the command, as in waybill -A proj check")


@pytest.mark.parametrize("name", ["publishers.topic", "publishers.__main__"])
def test_the_publishers_have_the_same_option(name: str) -> None:
    result = call(name, "-h")
    assert (result.code, result.err) == (0, "")
    assert "-h, --help" in result.out


def test_a_command_that_is_not_there() -> None:
    result = call("waybill.cli", "nosuch")
    assert (result.code, result.out) == (2, "")
    assert result.complaint.startswith("error: No such command 'nosuch'")
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = import_module("waybill.cli").nosuch


# --- below `celery`: the same output, the same exit code

BELOW_CELERY = (
    ("nosuch",),
    ("--nosuch",),
    ("topology", "--nosuch"),
    ("topology",),
    ("topology", "--json", "--no-fleet"),
    ("explain", "worker.tasks.work", "--header", "k"),
    ("explain", "worker.tasks.wrok"),
    ("route", "--definitions", "nosuch.json", "--exchange", "x"),
    ("check", "--select", "WB2"),
    ("check", "--json", "--github"),
    ("check", "--management", "http://127.0.0.1:x"),
    ("diff", "--management", "http://127.0.0.1:x"),
    ("broker", "--port", "99999"),
)


@pytest.mark.parametrize("arguments", BELOW_CELERY, ids=" ".join)
def test_below_celery_it_is_the_same(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    alone = call("waybill.cli", "-A", "worker", *arguments)
    assert alone.out or alone.complaint.startswith("error: ")
    assert celery("-A", "worker", "waybill", *arguments) == alone


def test_below_celery_the_help_is_the_same() -> None:
    def without_usage(result: Result) -> tuple[int, str]:
        return result.code, (result.out + result.err).partition("\n")[2]

    for arguments in ((), ("-h",), ("check", "-h")):
        assert without_usage(celery("waybill", *arguments)) == without_usage(call("waybill.cli", *arguments))


@pytest.mark.parametrize("arguments", [("topology",), ("topology", "--nosuch")], ids=" ".join)
def test_and_in_a_process_of_its_own(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert module("celery", "-A", "worker", "waybill", *arguments) == call("waybill.cli", "-A", "worker", *arguments)


def test_below_celery_without_an_application_pyproject_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the application that Celery makes where none is named."""
    asked = ("waybill", "explain", "worker.tasks.work", "--json")
    monkeypatch.chdir(ROOT)
    assert json.loads(celery(*asked).out)["queues"] == ["default"]
    monkeypatch.chdir(tmp_path)
    result = celery(*asked)
    assert result.complaint.startswith("error: which application?")
    assert result.code == 2
