"""`waybill check` as people and workflows run it: what it prints, its exit codes, and what it says to nonsense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import hostile_api
from tests.support.check_live import own_vhost
from tests.support.check_project import CLEAN, project_in, run
from tests.support.hostile_api import HOSTILE, SECRET, Hostile
from waybill.check import RULES
from waybill.rabbitmq import management
from waybill.testing.brokers import Address


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes an application, and perhaps a pyproject.toml, into the folder that becomes the current one."""
    return project_in(tmp_path, monkeypatch)


# --- the management API


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_management_api(
    project: Callable[..., str], monkeypatch: pytest.MonkeyPatch, hostile: Hostile
) -> None:
    if hostile.is_slow:
        monkeypatch.setattr(management, "TIMEOUT", 0.5)
        monkeypatch.setattr(management, "WHOLE_ANSWER", 0.5)
    with hostile_api.standing(hostile.answer) as url:
        shown = run(project(CLEAN), "--management", url)
    assert shown.code == 2
    assert shown.complaint.startswith("error: ")
    assert hostile.said in shown.complaint
    assert shown.out == ""
    assert SECRET not in shown.err


def test_where_nobody_listens(project: Callable[..., str]) -> None:
    shown = run(project(), "--management", f"http://guest:{SECRET}@127.0.0.1:1")
    assert shown.code == 2
    assert "http://127.0.0.1:1 does not answer" in shown.complaint
    assert SECRET not in shown.out + shown.err


def test_a_redirect_is_not_followed(project: Callable[..., str]) -> None:
    visited: list[bool] = []

    def elsewhere(_: object) -> None:
        visited.append(True)

    with hostile_api.standing(elsewhere) as other:
        where = f"Location: {other.replace(f'guest:{SECRET}@', '')}/api/overview"
        with hostile_api.standing(hostile_api.whole("307 Temporary Redirect", "", where)) as url:
            assert run(project(CLEAN), "--management", url).code == 2
    assert visited == []


def test_with_a_broker_nothing_is_left_unchecked(
    project: Callable[..., str], waybill_broker: Address, tmp_path: Path
) -> None:
    name = project(CLEAN)
    (tmp_path / "Procfile").write_text(f"all: celery -A {name} worker -n all@%h -Q celery\n")
    with own_vhost(waybill_broker) as address:
        given = ("--management", str(address.management_url), "--vhost", address.vhost, "--fleet", "Procfile")
        shown = run(name, *given)
        assert shown.code == 0, shown.out
        assert shown.out == f"no findings; {len(RULES)} rules checked\nread 1 file: 0 calls\n"
    gone = run(name, *given)
    assert gone.code == 2
    assert "with 404 " in gone.complaint
