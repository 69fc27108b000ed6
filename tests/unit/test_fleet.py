"""Reading the description of a fleet: ours, other people's, and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.programs import ROOT
from waybill.celery_app.fleet.reading import read_fleet
from waybill.errors import InputError, UnknownName

OURS = read_fleet(ROOT / "docker-compose.yml")


def test_our_fleet() -> None:
    assert len(OURS.workers) >= 6
    assert all("announcements" in worker.queues for worker in OURS)
    assert {worker.name for worker in OURS} == {worker.service for worker in OURS}
    assert [worker.name for worker in OURS.consuming(["images"])] == ["images1", "images2"]
    assert [worker.name for worker in OURS.named(["usa"])] == ["usa"]
    with pytest.raises(UnknownName, match="no worker 'uas' in the fleet; did you mean 'usa'"):
        OURS.named(["uas"])
    assert not {"ticker", "board"} & {worker.name for worker in OURS.without(["price_log", "price_board"])}


# command -> node name and queues, None when it starts no worker
COMMANDS: tuple[tuple[str, tuple[str, tuple[str, ...]] | None], ...] = (
    ("celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("celery -A proj worker -n w1@%h -Q a,b -c 4", ("w1@%h", ("a", "b"))),
    ("celery --app=proj worker --hostname=w1@%h --queues=a,b", ("w1@%h", ("a", "b"))),
    ("/venv/bin/celery -A proj -b amqp:// worker -Qa", ("celery@%h", ("a",))),
    ("python -m celery -A proj worker -Q 'a, b'", ("celery@%h", ("a", "b"))),
    ("[celery, -A, proj, worker, -Q, a]", ("celery@%h", ("a",))),
    ('["sh", "-c", "celery -A proj worker -Q q2"]', ("celery@%h", ("q2",))),
    ("bash -c 'exec celery -A proj worker -Q q2'", ("celery@%h", ("q2",))),
    ("bash -eo pipefail -c 'python migrate.py&&celery -A proj worker -Q a 2>&1 | tee log'", ("celery@%h", ("a",))),
    ("tini -- sh -lc 'cd /app; celery -A proj worker -Q a -n w1@%h; echo over'", ("w1@%h", ("a",))),
    ('["sh", "-c", "echo it\\ncelery -A proj worker \\\\\\n-Q a,b"]', ("celery@%h", ("a", "b"))),
    ("gosu celery celery -A proj worker -Q a -c 4", ("celery@%h", ("a",))),
    ("sh -c 'celery -A proj beat'", None),
    ('["python", "-c", "import celery  # it\'s"]', None),
    ("celery -A proj worker -n w1 -Q a", ("celery@w1", ("a",))),
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


def test_a_service_with_profiles_is_there_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(
        "services:\n"
        "  a: {command: celery worker -n a -Q q}\n"
        "  b: {command: celery worker -n b -Q q, profiles: [lessons]}\n"
    )
    assert [worker.service for worker in read_fleet(path)] == ["a"]
    assert [worker.service for worker in read_fleet(path, ["other"])] == ["a"]
    assert [worker.service for worker in read_fleet(path, ["lessons"])] == ["a", "b"]


# a service's entrypoint and command -> its queues
ENTRYPOINTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("entrypoint: celery, command: -A proj worker -Q a", ("a",)),
    ("entrypoint: [celery, -A, proj], command: [worker, -Q, 'a,b']", ("a", "b")),
    ("entrypoint: [/entrypoint.sh], command: celery -A proj worker -Q a", ("a",)),
    ("entrypoint: [sh, -c], command: ['celery -A proj worker -Q a']", ("a",)),
    ("entrypoint: celery -A proj worker -Q a", ("a",)),
)


@pytest.mark.parametrize(("service", "queues"), ENTRYPOINTS)
def test_an_entrypoint_stands_before_the_command(tmp_path: Path, service: str, queues: tuple[str, ...]) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(f"services:\n  one: {{{service}}}\n")
    assert [worker.queues for worker in read_fleet(path)] == [queues]


def test_a_procfile(tmp_path: Path) -> None:
    path = tmp_path / "Procfile"
    path.write_text(
        "web: gunicorn proj\n# a comment\nfast: celery -A proj worker -n fast@%h -Q fast\n\n"
        "slow: cd app && exec celery -A proj worker -n slow@%h -Q slow 2>log\n"
    )
    assert [(worker.service, worker.queues) for worker in read_fleet(path)] == [
        ("fast", ("fast",)),
        ("slow", ("slow",)),
    ]


# file -> what the one line says
BROKEN: tuple[tuple[str, str], ...] = (
    ("services: [", "line 1: not YAML"),
    ("services:\n  a: {command: x\n", "line 3: not YAML"),
    ("just text", "expected a mapping `services`, as in a compose file, got NoneType"),
    ("services: 3", "expected a mapping `services`, as in a compose file, got int"),
    ("services: {}", "no service runs `celery ... worker`"),
    ("services:\n  a: {command: nginx}", "no service runs `celery ... worker`"),
    ("services:\n  a: {command: celery -A p worker -n a@%h}", "service 'a' runs a worker without `-Q`"),
    ("services:\n  a: {command: celery -A p worker -Q ''}", "service 'a' runs a worker without `-Q`"),
    ("services:\n  a: {command: celery -A p worker -Q}", "service 'a': Option '-Q' requires an argument"),
    ("services:\n  a: {command: celery -A p worker -Q a --nosuch}", "service 'a': No such option"),
    ('services:\n  a: {command: "celery \'worker"}', "service 'a': the command cannot be split into words"),
    ("services:\n  a: {command: 'celery -A p worker -Q a,${QUEUE}'}", "service 'a': '${QUEUE}' holds a variable"),
    ("services:\n  a: {command: celery -A p worker -Q $QUEUE}", "service 'a': '$QUEUE' holds a variable"),
    ("services:\n  a: {command: celery -A p worker -Q q -n w@$HOST}", "service 'a': 'w@$HOST' holds a variable"),
    ("services:\n  a: {command: [sh, -c, 'celery worker -Q \"x']}", "service 'a': the command cannot be split"),
    ("services:\n  a: {command: [sh, -c, \"celery worker -Q ''\"]}", "service 'a' runs a worker without `-Q`"),
    ("services:\n  a: {command: [sh, -c, celery worker -Q a & celery worker -Q b]}", "service 'a' runs 2 workers"),
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
