"""The plugin's settings and marks. Nothing but pytest is imported here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from waybill.pytest_plugin.failures import refusal

# Under which name xdist's controller tells a process how to ask for its RabbitMQ.
FOLDER = "shared_rabbitmq"

OPTION_BROKER, OPTION_RUN = "--waybill-broker", "--waybill-run-tasks"
MARKS = (
    "waybill_workers(*names): the workers that these tests need; without it the whole fleet",
    "waybill(run=None, workers=None, app=None, fleet=None): whether the workers run tasks; names of workers, or a "
    "mapping from names to queues; another application and fleet than the configuration's",
)


def add_options(parser: pytest.Parser) -> None:
    """Options of the command line, and settings of the configuration."""
    group = parser.getgroup("waybill", "routing of Celery tasks")
    group.addoption(
        OPTION_BROKER, help="`embedded`, `docker` or the URL of a broker (default: as the environment says)"
    )
    group.addoption(OPTION_RUN, action="store_true", help="let the workers run the tasks that they receive")
    parser.addini("waybill_app", "the Celery application, as `celery -A` takes it")
    parser.addini("waybill_fleet", "the compose file or Procfile that describes the workers (default: none)")
    parser.addini("waybill_run_tasks", "let the workers run the tasks that they receive", type="bool", default=False)
    parser.addini("waybill_environment", "variables for the workers, each as NAME=value", type="linelist")


def add_markers(config: pytest.Config) -> None:
    """The marks, for `--strict-markers` and `--markers`."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)


def broker(config: pytest.Config) -> str:
    """The broker that the command line names, or the environment; empty where neither does."""
    given: str | None = config.getoption(OPTION_BROKER)
    return given or os.environ.get("WAYBILL_BROKER_URL") or os.environ.get("BROKER") or ""


def shared(config: pytest.Config) -> str:
    """The folder by which to ask xdist's controller for its RabbitMQ; empty where there is none."""
    folder: str = getattr(config, "workerinput", {}).get(FOLDER, "")
    return folder if broker(config) == "docker" else ""


def environment(config: pytest.Config) -> dict[str, str]:
    """The variables that the configuration gives to the workers."""
    found = {}
    for line in config.getini("waybill_environment"):
        name, equals, value = line.partition("=")
        if not equals:
            raise refusal(f"waybill_environment: expected NAME=value, got {line!r}")
        found[name.strip()] = value.strip()
    return found


@dataclass(frozen=True)
class Asked:
    """What marks ask for.

    Attributes:
        names: of the workers; None for all.
        queues: receivers and their queues, in place of a fleet.
        run: whether workers run tasks; None as the configuration says.
        error: what is wrong with the marks.
    """

    names: tuple[str, ...] | None = None
    queues: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    run: bool | None = None
    app: str | None = None
    fleet: str | None = None
    error: str = ""

    def __str__(self) -> str:
        return "-".join(self.names or [name for name, _ in self.queues or ()]) or "waybill"

    def checked(self) -> Asked:
        """This, unless a mark is wrong."""
        if self.error:
            raise refusal(self.error)
        return self

    def runs_tasks(self, config: pytest.Config) -> bool:
        """Whether workers run the tasks that they receive."""
        if self.run is not None:
            return self.run
        return bool(config.getoption(OPTION_RUN) or config.getini("waybill_run_tasks"))

    def application(self, config: pytest.Config) -> str:
        """The application's name; empty where none is given."""
        return self.app or str(config.getini("waybill_app") or "")

    def fleet_file(self, config: pytest.Config) -> Path | None:
        """The description of the workers; None without one."""
        given = self.fleet or str(config.getini("waybill_fleet") or "").strip()
        return config.rootpath / given if given and self.queues is None else None


def asked_by(node: Any) -> Asked:
    """What the marks of a module or a test ask for, the closest of each kind."""
    try:
        return _asked_by(node)
    except _Wrong as error:
        return Asked(error=str(error))


class _Wrong(Exception):
    """A mark that can't be read."""


def _asked_by(node: Any) -> Asked:
    named = node.get_closest_marker("waybill_workers") if node else None
    names = _names(named.args, "waybill_workers") if named else None
    marker = node.get_closest_marker("waybill") if node else None
    if marker is None:
        return Asked(names)
    known = {"run", "workers", "app", "fleet"}
    if marker.args or not set(marker.kwargs) <= known:
        given = ", ".join([*map(repr, marker.args), *(f"{name}=..." for name in marker.kwargs)])
        raise _Wrong(f"waybill({given}): expected run=, workers=, app= or fleet=")
    run, workers = marker.kwargs.get("run"), marker.kwargs.get("workers")
    if run not in (None, True, False):
        raise _Wrong(f"waybill(run={run!r}): expected True or False")
    queues = _queues(workers) if isinstance(workers, Mapping) else None
    if workers is not None and queues is None:
        names = _names([workers] if isinstance(workers, str) else workers, "waybill", "workers=[{}]")
    return Asked(names, queues, run, marker.kwargs.get("app"), marker.kwargs.get("fleet"))


def _names(given: Any, mark: str, example: str = "{}") -> tuple[str, ...]:
    names = tuple(given)
    if not all(isinstance(name, str) for name in names):
        flat = [name for one in names for name in (one if isinstance(one, list | tuple | set) else [one])]
        proposed = example.format(", ".join(map(repr, flat)))
        got = ", ".join(map(repr, names))
        raise _Wrong(f"{mark}({example.format(got)}): expected names of workers; write {mark}({proposed})")
    return names


def _queues(given: Mapping[Any, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = {name: (queues,) if isinstance(queues, str) else tuple(queues) for name, queues in given.items()}
    if not all(isinstance(name, str) for names in (found, *found.values()) for name in names):
        raise _Wrong(f"waybill(workers={dict(given)!r}): expected a mapping from names to lists of queues")
    return tuple(found.items())
