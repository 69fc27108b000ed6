"""Reading the description of a fleet: ours, other people's, and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import ROOT
from waybill.errors import InputError
from waybill.fleet import read_fleet

OURS = read_fleet(ROOT / "docker-compose.yml")


def test_our_fleet() -> None:
    assert len(OURS.workers) >= 6
    assert all("announcements" in worker.queues for worker in OURS)
    assert {worker.name for worker in OURS} == {worker.service for worker in OURS}
    assert [worker.name for worker in OURS.consuming(["images"])] == ["images1", "images2"]
    assert [worker.name for worker in OURS.named(["usa", "nosuch"])] == ["usa"]
    assert not {"ticker", "board"} & {worker.name for worker in OURS.without(["price_log", "price_board"])}


# command -> node name and queues, None when it starts no worker
COMMANDS: tuple[tuple[str, tuple[str, tuple[str, ...]] | None], ...] = (
    ("celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("celery -A proj worker -n w1@%h -Q a,b -c 4", ("w1@%h", ("a", "b"))),
    ("celery --app=proj worker --hostname=w1@%h --queues=a,b", ("w1@%h", ("a", "b"))),
    ("/venv/bin/celery -A proj -b amqp:// worker -Qa", ("celery@%h", ("a",))),
    ("python -m celery -A proj worker -Q 'a, b'", ("celery@%h", ("a", "b"))),
    ("[celery, -A, proj, worker, -Q, a]", ("celery@%h", ("a",))),
    ("celery -A proj beat", None),
    ("celery -A proj", None),
    ("nginx -g daemon", None),
)


@pytest.mark.parametrize(("command", "expected"), COMMANDS)
def test_commands(tmp_path: Path, command: str, expected: tuple[str, tuple[str, ...]] | None) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(f"services:\n  one:\n    command: {command}\n  two:\n    command: celery worker -n two -Q z\n")
    found = {worker.service: (worker.node_name, worker.queues) for worker in read_fleet(path)}
    assert found.get("one") == expected


def test_a_procfile(tmp_path: Path) -> None:
    path = tmp_path / "Procfile"
    path.write_text("web: gunicorn proj\n# a comment\nfast: celery -A proj worker -n fast@%h -Q fast\n\n")
    assert [(worker.service, worker.queues) for worker in read_fleet(path)] == [("fast", ("fast",))]


# file -> what the one line says
BROKEN: tuple[tuple[str, str], ...] = (
    ("services: [", "line 1: not YAML"),
    ("services:\n  a: {command: x\n", "line 3: not YAML"),
    ("just text", "expected a mapping `services`, got NoneType"),
    ("services: 3", "expected a mapping `services`, got int"),
    ("services: {}", "no service runs `celery ... worker`"),
    ("services:\n  a: {command: nginx}", "no service runs `celery ... worker`"),
    ("services:\n  a: {command: celery -A p worker -n a@%h}", "service 'a' runs a worker without `-Q`"),
    ("services:\n  a: {command: celery -A p worker -Q ''}", "service 'a' runs a worker without `-Q`"),
    ("services:\n  a: {command: celery -A p worker -Q}", "service 'a': Option '-Q' requires an argument"),
    ("services:\n  a: {command: celery -A p worker -Q a --nosuch}", "service 'a': No such option"),
    ('services:\n  a: {command: "celery \'worker"}', "service 'a': the command cannot be split into words"),
    (
        "services:\n  a: {command: celery -A p worker -Q a}\n  b: {command: celery -A p worker -Q b}",
        "services 'a' and 'b' both run `-n celery@%h`",
    ),
)


@pytest.mark.parametrize(("text", "expected"), BROKEN)
def test_a_broken_description_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_fleet(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_fleet(tmp_path / "docker-compose.yml")
