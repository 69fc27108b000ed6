"""The workers that a fleet's descriptions tell of: commands, variables, files, and what can't be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from celery import Celery
from kombu import Queue
from kombu.common import Broadcast

from tests.support.programs import ROOT
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.variables import expanded, interpolated
from waybill.celery_app.fleet.workers import Fleet
from waybill.errors import InputError, UnknownName

OURS = read_fleet(ROOT / "docker-compose.yml")


def application(*queues: str) -> Celery:
    app = Celery("proj", broker="amqp://nobody@127.0.0.1:1//", set_as_current=False)
    app.conf.task_queues = [Queue(name) for name in queues or ("celery", "a", "b")]
    return app


def fleet_of(folder: Path, files: Mapping[str, str], *paths: str, **options: Any) -> Fleet:
    """The fleet of these files: of the first, or of those that are named."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    named = [folder / name for name in paths or list(files)[:1]]
    return read_fleet(named, app=application(), allow_duplicate_names=True, **options)


def told(fleet: Fleet) -> dict[str, tuple[str, ...]]:
    """Service -> the queues of its worker."""
    return {worker.service: worker.queues for worker in fleet}


def test_our_own_fleet() -> None:
    assert len(OURS.workers) == 17
    assert OURS.is_complete
    assert OURS.consumers("images") == ("images1", "images2")
    assert [worker.name for worker in OURS.named(["usa", "world"])] == ["usa", "world"]
    with pytest.raises(UnknownName, match="no worker 'wrld' in the fleet; did you mean 'world'"):
        OURS.named(["wrld"])


# A command -> its worker's node name and queues; None for no worker. Without `-Q` it consumes celery, a and b.
ALL = ("celery", "a", "b")
COMMANDS: tuple[tuple[str, tuple[str, tuple[str, ...]] | None], ...] = (
    ("celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("celery -A proj worker", ("celery@%h", ALL)),
    ("celery -A proj worker -Q ''", ("celery@%h", ("",))),  # the queue without a name
    ("celery -A proj worker -n w1@%h -Q a,b -c 4", ("w1@%h", ("a", "b"))),
    ("celery --app=proj worker --hostname=w1@%h --queues=a,b", ("w1@%h", ("a", "b"))),
    ("/venv/bin/celery -A proj -b amqp:// worker -Qa", ("celery@%h", ("a",))),
    # Celery splits at commas and takes blanks for a part of the name.
    ("python -m celery -A proj worker -Q 'a, b'", ("celery@%h", ("a", " b"))),
    ('["celery", "-A", "proj", "worker", "-Q a"]', ("celery@%h", (" a",))),
    ("celery -A proj worker -Q a,a,b", ("celery@%h", ("a", "b"))),
    ("celery -A proj worker -X a", ("celery@%h", ("celery", "b"))),
    ("celery -A proj worker -Q a,b --exclude-queues=b", ("celery@%h", ("a",))),
    ("celery -A proj worker -Q a,b -X ' b'", ("celery@%h", ("a", "b"))),
    ("celery -A proj worker -B -E -l info -P gevent --autoscale=10,3 -Q a", ("celery@%h", ("a",))),
    ("celery worker -A proj -Q a", None),  # Celery 5 wants -A before `worker`: "No such option"
    ("[celery, -A, proj, worker, -Q, a]", ("celery@%h", ("a",))),
    ('["sh", "-c", "celery -A proj worker -Q q2"]', ("celery@%h", ("q2",))),
    ("bash -c 'exec celery -A proj worker -Q q2'", ("celery@%h", ("q2",))),
    ("bash -eo pipefail -c 'python migrate.py&&celery -A proj worker -Q a 2>&1 | tee log'", ("celery@%h", ("a",))),
    ("tini -- sh -lc 'cd /app; celery -A proj worker -Q a -n w1@%h; echo over'", ("w1@%h", ("a",))),
    ('["sh", "-c", "echo it\\ncelery -A proj worker \\\\\\n-Q a,b"]', ("celery@%h", ("a", "b"))),
    ("gosu celery celery -A proj worker -Q a -c 4", ("celery@%h", ("a",))),
    ("dumb-init celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("nice -n 10 celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("env QUEUES=a celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("poetry run celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("uv run --no-sync celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("pipenv run python -m celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("newrelic-admin run-program celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("ddtrace-run celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("opentelemetry-instrument --traces_exporter otlp celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("watchmedo auto-restart -d . -p '*.py' -R -- celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("watchfiles --filter python 'celery -A proj worker -n w@%h -Q a' ./proj", ("w@%h", ("a",))),
    ("watchmedo shell-command --command='celery -A proj worker -Q a' .", None),
    ("python -m watchfiles 'celery -A proj worker -Q a'", ("celery@%h", ("a",))),
    ("coverage run -m celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("wait-for-it rabbitmq:5672 -t 60 -- celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("dockerize -wait tcp://rabbitmq:5672 celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ("/docker-entrypoint.sh celery -A proj worker -Q a", ("celery@%h", ("a",))),
    ('["celery -A proj worker -n w@%h -Q a"]', ("w@%h", ("a",))),  # the image's entrypoint is `bash -c`
    ("sh -c 'QUEUES=a,b; celery -A proj worker -Q $$QUEUES'", ("celery@%h", ("a", "b"))),
    ("sh -c 'export QUEUES=a && exec celery -A proj worker -Q \"$$QUEUES\"'", ("celery@%h", ("a",))),
    ("sh -c 'celery -A proj worker -Q $${QUEUES:-a,b}'", ("celery@%h", ("a", "b"))),
    ("sh -c 'if [ -n \"$$X\" ]; then celery -A proj worker -Q a; fi'", ("celery@%h", ("a",))),
    ("sh -c '# celery -A proj worker -Q b\ncelery -A proj worker -Q a'", ("celery@%h", ("a",))),
    ("celery -A proj worker -n w@$$HOSTNAME -Q a", ("w@%h", ("a",))),
    ("celery -A proj worker -n w1 -Q a", ("celery@w1", ("a",))),
    ("sh -c 'celery -A proj beat'", None),
    ("celery -A proj beat", None),
    ("celery -A proj inspect ping", None),
    ("celery -A proj flower --port=5555", None),
    ("celery -A proj", None),
    ('["python", "-c", "import celery  # it\'s"]', None),
    ("nginx -g daemon", None),
    ("python manage.py runserver", None),
)


@pytest.mark.parametrize(("command", "expected"), COMMANDS)
def test_commands(tmp_path: Path, command: str, expected: tuple[str, tuple[str, ...]] | None) -> None:
    service = command if command.startswith("[") else json.dumps(command)
    found = fleet_of(tmp_path, {"docker-compose.yml": f"services: {{one: {{command: {service}}}, two: {TWO}}}"})
    workers = {worker.service: (worker.node_name, worker.queues) for worker in found}
    assert workers.get("one") == expected


TWO = "{command: celery -A proj worker -n two@%h -Q z}"


# The nodes of `celery multi`: name and queues.
MULTI: tuple[tuple[str, list[tuple[str, tuple[str, ...]]]], ...] = (
    ("celery multi start 2 -A proj -Q:1 a -Q:2 b", [("celery1", ("a",)), ("celery2", ("b",))]),
    ("celery multi start w1 w2 -A proj -Q:w1 a,b -Q:w2 celery", [("w1", ("a", "b")), ("w2", ("celery",))]),
    ("celery -A proj multi start w1 w2 -Q a", [("w1", ("a",)), ("w2", ("a",))]),
    ("celery multi start 3 -A proj -Q:1,3 a", [("celery1", ("a",)), ("celery2", ALL), ("celery3", ("a",))]),
    ("celery multi restart fast slow -A proj --queues:fast=a -Q:slow b -c 2", [("fast", ("a",)), ("slow", ("b",))]),
    ("celery multi start w1 -A proj -Q a --pidfile={folder}/%n.pid", [("w1", ("a",))]),
    ("celery multi stopwait w1 -A proj", []),
)


@pytest.mark.parametrize(("command", "expected"), MULTI)
def test_celery_multi(tmp_path: Path, command: str, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    folder = tmp_path / "pids"
    command = command.format(folder=folder)
    found = fleet_of(tmp_path, {"docker-compose.yml": f"services: {{one: {{command: '{command}'}}, two: {TWO}}}"})
    assert [(worker.name, worker.queues) for worker in found if worker.service == "one"] == expected
    assert not folder.exists()  # Celery's own class makes the folder of a pidfile


def test_what_a_worker_is_told_of_itself(tmp_path: Path) -> None:
    command = "celery --app other worker -P solo --autoscale 8,2 -c 3 --prefetch-multiplier 7 -Q a"
    (worker,) = fleet_of(tmp_path, {"Procfile": f"one: {command}"})
    assert (worker.app, worker.pool, worker.concurrency, worker.prefetch_multiplier) == ("other", "solo", 8, 7)
    assert not worker.has_own_host


def test_celerys_own_variables_are_options(tmp_path: Path) -> None:
    files = {
        "docker-compose.yml": "services: {one: {command: celery worker, "
        "environment: {CELERY_APP: proj, CELERY_WORKER_QUEUES: 'a,b', CELERY_WORKER_CONCURRENCY: 3}}}"
    }
    (worker,) = fleet_of(tmp_path, files)
    assert (worker.queues, worker.app, worker.concurrency) == (("a", "b"), "proj", 3)


def test_a_broadcast_is_consumed_by_its_alias(tmp_path: Path) -> None:
    app = application()
    app.conf.task_queues = [Queue("a"), Broadcast("everybody")]
    (tmp_path / "Procfile").write_text(
        "one: celery -A proj worker -Q a,everybody -n one@%h\ntwo: celery -A proj worker"
    )
    one, two = read_fleet(tmp_path / "Procfile", app=app)
    assert one.queues == ("a", "everybody")
    assert two.queues == ("a", "everybody")


# Text, variables -> what docker compose makes of it, as `docker compose config` shows it
COMPOSE_VARIABLES: tuple[tuple[str, dict[str, str], str], ...] = (
    ("-Q $Q", {"Q": "a"}, "-Q a"),
    ("-Q ${Q}", {"Q": "a"}, "-Q a"),
    ("-Q ${Q}", {}, "-Q "),
    ("-Q ${Q:-b}", {}, "-Q b"),
    ("-Q ${Q:-b}", {"Q": ""}, "-Q b"),
    ("-Q ${Q-b}", {"Q": ""}, "-Q "),
    ("-Q ${Q-b}", {}, "-Q b"),
    ("-Q ${Q:+c}", {"Q": "a"}, "-Q c"),
    ("-Q ${Q:+c}", {"Q": ""}, "-Q "),
    ("-Q ${Q+c}", {"Q": ""}, "-Q c"),
    ("-Q ${Q:?it must}", {"Q": "a"}, "-Q a"),
    ("-Q ${Q:-${R:-c}}", {}, "-Q c"),
    ("-Q ${Q:-${R:-c}}", {"R": "r"}, "-Q r"),
    ("-Q $$Q", {"Q": "a"}, "-Q $Q"),
    ("-Q $${Q:-b}", {"Q": "a"}, "-Q ${Q:-b}"),
    ("100$ and $(date)", {}, "100$ and $(date)"),
)


@pytest.mark.parametrize(("text", "variables", "expected"), COMPOSE_VARIABLES)
def test_variables_as_compose_resolves_them(text: str, variables: dict[str, str], expected: str) -> None:
    assert interpolated(text, variables) == expected


SHELL_VARIABLES: tuple[tuple[str, dict[str, str], str], ...] = (
    ("-Q $Q", {"Q": "a"}, "-Q a"),
    ("-Q $Q", {}, "-Q ${Q}"),  # not known here: whoever needs it says so
    ("-Q '$Q'", {"Q": "a"}, "-Q '$Q'"),
    ('-Q "${Q:-b}"', {}, '-Q "b"'),
    (r"-Q \$Q", {"Q": "a"}, r"-Q \$Q"),
)


@pytest.mark.parametrize(("script", "variables", "expected"), SHELL_VARIABLES)
def test_variables_as_a_shell_resolves_them(script: str, variables: dict[str, str], expected: str) -> None:
    assert expanded(script, variables) == expected


WORKER = "celery -A proj worker -n {0}@%h -Q {1}"

# Files, of which the first is read -> service -> queues
FILES: tuple[tuple[str, dict[str, str], dict[str, tuple[str, ...]]], ...] = (
    (
        "entrypoint and command",
        {"compose.yaml": "services: {w: {entrypoint: [celery, -A, proj], command: [worker, -Q, 'a,b']}}"},
        {"w": ("a", "b")},
    ),
    (
        "an entrypoint script hands its arguments on",
        {
            "compose.yaml": "services: {w: {build: ., entrypoint: /entrypoint.sh, command: celery -A p worker -Q a}}",
            "entrypoint.sh": '#!/bin/sh\npython manage.py migrate\nexec "$@"\n',
        },
        {"w": ("a",)},
    ),
    (
        "a script that is here",
        {
            "compose.yaml": "services: {w: {build: ., command: /app/docker/start.sh, environment: [Q=a]}}",
            "docker/start.sh": '#!/bin/bash\nset -e\nexec celery -A proj worker -n w@%h --queues="${Q:-celery}"\n',
        },
        {"w": ("a",)},
    ),
    (
        "a script in the folder from which the image is built",
        {
            "compose.yaml": "services: {w: {build: {context: app}, command: ./worker}}",
            "app/worker": "#!/usr/bin/env bash\ncelery -A proj worker -Q b\n",
        },
        {"w": ("b",)},
    ),
    (
        "the choice of an entrypoint script",
        {
            "compose.yaml": "services: {w: {build: ., entrypoint: ./run.sh, command: worker}}",
            "run.sh": '#!/bin/sh\ncase "$1" in\n  worker)\n    exec celery -A proj worker -Q a\n    ;;\nesac\n',
        },
        {"w": ("a",)},
    ),
    (
        ".env",
        {"compose.yaml": "services: {w: {command: 'celery -A p worker -Q ${QUEUES}'}}", ".env": "QUEUES='a,b' # x\n"},
        {"w": ("a", "b")},
    ),
    (
        "env_file and environment",
        {
            "compose.yaml": "services: {w: {env_file: [w.env], environment: {R: b}, "
            "command: \"sh -c 'celery -A p worker -Q $$Q,$$R'\"}}",
            "w.env": "# what it consumes\nexport Q=a\nR=c\n",
        },
        {"w": ("a", "b")},
    ),
    (
        "anchors and merged keys",
        {"compose.yaml": "x-w: &w {image: p, command: celery -A p worker -Q a}\nservices: {w: {<<: *w}, v: *w}\n"},
        {"w": ("a",), "v": ("a",)},
    ),
    (
        "extends",
        {
            "compose.yaml": "services:\n  base: {image: p, profiles: [never], command: celery -A p worker -Q a}\n"
            "  w: {extends: base, profiles: !reset []}\n"
            "  v: {extends: {service: other, file: base.yml}, command: !reset null}\n"
            "  u: {extends: {service: other, file: base.yml}}\n",
            "base.yml": "services: {other: {image: p, command: celery -A p worker -Q b}}",
        },
        {"w": ("a",), "u": ("b",)},
    ),
    (
        "include",
        {
            "compose.yaml": "include: [more/compose.yaml]\nservices: {w: {command: celery -A p worker -Q a}}",
            "more/compose.yaml": "services: {v: {command: celery -A p worker -Q b}}",
        },
        {"v": ("b",), "w": ("a",)},
    ),
    (
        "compose's own tags",
        {
            "compose.yaml": "services: {db: {image: postgres, ports: !reset []}, "
            "w: {image: p, command: !override [celery, -A, p, worker, -Q, a]}}"
        },
        {"w": ("a",)},
    ),
    (
        "no replica, no worker",
        {
            "compose.yaml": "services: {w: {command: celery -A p worker -Q a, deploy: {replicas: 0}}, "
            "v: {command: celery -A p worker -Q b, deploy: {replicas: 3}}, u: {command: celery -A p worker, scale: 0}}"
        },
        {"v": ("b",)},
    ),
    (
        "a Procfile",
        {
            "Procfile": "web: gunicorn proj\n# a comment\nfast: celery -A proj worker -n fast@%h -Q a\n\n"
            "slow: cd app && exec celery -A proj worker -n slow@%h -Q ${SLOW:-b} 2>log\n"
            "beat: celery -A proj beat\nnamed: celery -A proj worker -Q $QUEUES\n",
            ".env": "QUEUES=celery\n",
        },
        {"fast": ("a",), "slow": ("b",), "named": ("celery",)},
    ),
    (
        "a Procfile by its ending",
        {"Procfile.dev": "w: celery -A proj worker -Q a"},
        {"w": ("a",)},
    ),
    (
        "Kubernetes",
        {
            "deploy.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {Q: 'a,b'}\n---\n"
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w}\nspec:\n  replicas: 2\n  template:\n    spec:\n"
            "      containers:\n      - name: w\n        command: [celery]\n        args: [-A, p, worker, -Q, $(Q)]\n"
            "        envFrom: [{configMapRef: {name: c}}]\n---\n"
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\nspec: {jobTemplate: {spec: {template: {spec: "
            "{containers: [{name: j, command: [sh, -c, celery -A p worker -Q $X], "
            "env: [{name: X, value: b}]}]}}}}}\n---\n"
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s}\nspec: {template: {spec: {containers: ["
            "{name: one, command: [celery, -A, p, worker]}, {name: two, image: nginx, command: [nginx]}]}}}\n"
        },
        {"w": ("a", "b"), "j": ("b",), "s/one": ALL},
    ),
    (
        "a list of manifests",
        {
            "all.yml": "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: p}, "
            "spec: {containers: [{name: c, command: [celery, -A, p, worker, -Q, a]}]}}\n"
        },
        {"p": ("a",)},
    ),
    (
        "supervisor",
        {
            "supervisord.conf": '[supervisord]\nenvironment=R="b"\n[program:w]\n'
            "command=/venv/bin/celery -A p worker -n w%%(process_num)s@%%h -Q a ; the first\nnumprocs=2\n"
            "[program:v]\ncommand=sh -c 'celery -A p worker -Q $Q,$R'\nenvironment=Q=\"a\",X='1'\n[program:web]\n"
            "command=gunicorn p\n"
        },
        {"w": ("a",), "v": ("a", "b")},
    ),
    (
        "systemd",
        {
            "celery.service": '[Service]\nEnvironmentFile=-/etc/default/celery\nEnvironment="X=1" Y=2\n'
            "ExecStart=/bin/sh -c '${CELERY_BIN} -A p multi start $CELERYD_NODES --pidfile=/x/%%n.pid \\\n"
            "    $CELERYD_OPTS'\n",
            "celery": 'CELERYD_NODES="w1 w2"\nCELERY_BIN="/usr/local/bin/celery"\nCELERYD_OPTS="-Q:w1 a -Q:w2 b"\n',
        },
        {"celery": ("b",)},
    ),
    (
        "systemd without a shell",
        {"w.service": "[Service]\nExecStart=/venv/bin/celery -A p worker -Q ${Q}\nEnvironment=Q=a\n"},
        {"w": ("a",)},
    ),
)


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_files(tmp_path: Path, files: dict[str, str], expected: dict[str, tuple[str, ...]]) -> None:
    assert told(fleet_of(tmp_path, files)) == expected


def test_several_files_and_a_folder(tmp_path: Path) -> None:
    files = {
        "compose.yaml": "services: {w: {image: p, command: celery -A p worker -Q a}}",
        "compose.override.yaml": "services: {w: {command: celery -A p worker -Q b}, v: {command: celery -A p worker}}",
        "config.yaml": "a: mapping\n",
        "broken.yml": "a: [",
    }
    expected = {"w": ("b",), "v": ALL}
    assert told(fleet_of(tmp_path, files, "compose.yaml", "compose.override.yaml")) == expected
    assert told(fleet_of(tmp_path, files, ".")) == expected


def test_a_service_with_profiles_is_there_when_asked_for(tmp_path: Path) -> None:
    files = {
        "docker-compose.yml": "services:\n  a: {command: celery worker -n a -Q q}\n"
        "  b: {command: celery worker -n b -Q q, profiles: [lessons]}\n"
    }
    assert list(told(fleet_of(tmp_path, files))) == ["a"]
    assert list(told(fleet_of(tmp_path, files, profiles=["other"]))) == ["a"]
    assert list(told(fleet_of(tmp_path, files, profiles=["lessons"]))) == ["a", "b"]


# A service that may run a worker and can't be read -> the reason
UNREAD: tuple[tuple[str, str], ...] = (
    ("{image: p, command: ./start.sh}", "w (its script ./start.sh isn't here)"),
    ("{image: p, command: bash /app/run.sh worker}", "w (its script /app/run.sh isn't here)"),
    ("{build: ., command: /start-celeryworker}", "w (its script /start-celeryworker isn't here)"),
    ("{image: p}", "w (no command here, and the image's own isn't known)"),
    (
        "{image: p, command: python manage.py celery_worker}",
        "w (`python manage.py celery_worker` is no command of Celery's)",
    ),
    ("{image: p, command: airflow celery worker -q spark}", "w (celery: No such option"),
    ("{image: p, command: celery -A proj worker --nosuch}", "w (celery: No such option"),
    ("{image: p, command: celery -A proj worker -Q}", "w (celery: Option '-Q' requires an argument"),
    ("{image: p, command: [sh, -c, celery -A p worker -Q $$Q]}", "w (-Q ${Q}: the description doesn't say what this"),
    (
        "{image: p, command: [sh, -c, celery -A p worker -Q $$(cat q)]}",
        "w (-Q $(command): the description doesn't say",
    ),
    ("{image: p, command: 'celery -A p worker -Q ${Q:?say which}'}", "w (the variable Q must be set: say which)"),
    ('{image: p, command: "celery \'worker"}', "w (its command cannot be split into words: No closing quotation)"),
    ("{extends: nowhere}", "w (what it extends can't be read: 'nowhere')"),
    ("just text", "w (its description is no mapping)"),
)


@pytest.mark.parametrize(("service", "reason"), UNREAD)
def test_what_cannot_be_read_takes_nothing_else_down(tmp_path: Path, service: str, reason: str) -> None:
    files = {
        "docker-compose.yml": f"services:\n  w: {service}\n  two: {{image: p, command: celery -A p worker -Q z}}\n"
    }
    found = fleet_of(tmp_path, files)
    assert told(found) == {"two": ("z",)}
    assert next(str(one) for one in found.unread).startswith(reason)
    assert not found.is_complete
    left_out = fleet_of(tmp_path, files, ignored=["w"])
    assert (told(left_out), left_out.is_complete) == ({"two": ("z",)}, True)


# Services beside a worker that certainly run none: they leave the fleet complete.
BESIDE = (
    "{image: postgres:16}",
    "{image: redis, command: redis-server --save 60 1}",
    "{image: rabbitmq:4-management}",
    "{image: nginx, entrypoint: /docker-entrypoint.sh, command: nginx}",
    "{build: ., command: gunicorn proj.wsgi}",
    "{build: ., command: python manage.py runserver 0.0.0.0:8000}",
    "{build: ., command: celery -A proj beat}",
    "{build: ., command: celery -A proj flower}",
)


@pytest.mark.parametrize("service", BESIDE)
def test_what_runs_beside_workers_is_no_doubt(tmp_path: Path, service: str) -> None:
    files = {"compose.yml": f"services:\n  beside: {service}\n  two: {{image: p, command: celery -A p worker -Q z}}\n"}
    assert fleet_of(tmp_path, files).is_complete


# A script that a service of the workers' image runs -> why it may start a worker all the same; None where it can't.
BESIDE_SCRIPTS: tuple[tuple[str, str | None], ...] = (
    ("python manage.py migrate\nexec gunicorn proj.wsgi --workers 4", None),
    ("celery -A proj beat -l info", None),
    ("echo 'the celery worker is another service'\npython manage.py runserver", None),
    (". ./common.sh\npython manage.py runserver", None),
    ("source bin/other.sh", None),
    ("./lost.sh", "beside (its script ./lost.sh isn't here)"),
    ("python manage.py run_celery_worker", "beside (`python manage.py run_celery_worker` is no command of Celery's)"),
)


@pytest.mark.parametrize(("script", "reason"), BESIDE_SCRIPTS)
def test_a_script_that_is_here_is_read(tmp_path: Path, script: str, reason: str | None) -> None:
    files = {
        "compose.yml": "services:\n  beside: {build: ./api, command: ./bin/start-it.sh}\n"
        "  two: {build: ./api, command: celery -A p worker -Q z}\n",
        "api/bin/start-it.sh": f"#!/bin/sh\nset -e\n{script}\n",
        "api/bin/other.sh": "celery -A p worker -n other -Q o\n",
    }
    found = fleet_of(tmp_path, files)
    assert list(map(str, found.unread)) == ([reason] if reason else [])
    assert ("beside" in told(found)) == ("other.sh" in script)


# file -> what the one line says
BROKEN: tuple[tuple[str, str], ...] = (
    ("services: [", "line 1: not YAML"),
    ("services:\n  a: {command: x\n", "line 3: not YAML"),
    ("just text", "expected a mapping `services`, as in a compose file, got NoneType"),
    ("services: 3", "expected a mapping `services`, as in a compose file, got int"),
    ("services: {}", "no service runs `celery ... worker`"),
    ("services:\n  a: {command: nginx}", "no service runs `celery ... worker`"),
    ("[1, 2]: 3", "not YAML"),
    ("a: &a [x]\nb: [*a" + ", *a" * 3000 + "]", "more than 2000 aliases"),
    ("a: " + "[" * 3000 + "]" * 3000, "nested more than 100 deep"),
    ("a: 2024-99-99", "not YAML"),
    ("\x00", "not YAML"),
    ("x" * (5 * 1024 * 1024), "5242880 bytes, expected 4194304 at most"),
)


@pytest.mark.parametrize(("text", "expected"), BROKEN, ids=[row[1] for row in BROKEN])
def test_a_broken_description_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "docker-compose.yml"
    began = perf_counter()
    with pytest.raises(InputError) as caught:
        fleet_of(tmp_path, {"docker-compose.yml": text})
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert perf_counter() - began < 20


def test_files_that_lead_to_themselves_or_to_many(tmp_path: Path) -> None:
    itself = "include: [compose.yaml]\nservices: {w: {command: celery -A p worker}}"
    with pytest.raises(InputError, match="it includes or extends itself"):
        fleet_of(tmp_path, {"compose.yaml": itself})
    twice = {f"c{at}.yaml": f"include: [c{at + 1}.yaml, c{at + 1}.yaml]\nservices: {{}}" for at in range(30)}
    last = "services: {w: {command: celery -A p worker -Q a}}"
    assert told(fleet_of(tmp_path, {**twice, "c30.yaml": last})) == {"w": ("a",)}
    own = "services: {w: {extends: w}, v: {extends: {service: [x]}}, two: {command: celery -A p worker -Q z}}"
    found = fleet_of(tmp_path, {"own.yaml": own})
    assert (told(found), [one.service for one in found.unread]) == ({"two": ("z",)}, ["w", "v"])


def test_a_command_that_runs_itself(tmp_path: Path) -> None:
    loop = "{command: 'sh -c $$X', environment: {X: 'sh -c \"$$X\"'}}"
    files = {"compose.yaml": f"services: {{worker: {loop}, two: {{command: celery -A p worker -Q z}}}}"}
    found = fleet_of(tmp_path, files)
    assert told(found) == {"two": ("z",)}
    assert [str(one) for one in found.unread] == ["worker (its scripts call each other more than 12 deep)"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_fleet(tmp_path / "docker-compose.yml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no compose file, Procfile, manifest, supervisor or systemd file"):
        read_fleet(tmp_path / "empty")


def test_workers_that_are_to_run_here_need_a_name_each_and_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "Procfile"
    path.write_text("a: celery -A p worker -Q a\nb: celery -A p worker -Q b\n")
    with pytest.raises(InputError, match="services 'a' and 'b' both run `-n celery@%h`; expected a node name for each"):
        read_fleet(path)
    path.write_text("a: celery -A p worker -Q a\nb: celery -A p worker -Q\n")
    with pytest.raises(InputError, match="service 'b': celery: Option '-Q' requires an argument"):
        read_fleet(path)


def test_a_thousand_services(tmp_path: Path) -> None:
    services = "\n".join(f"  w{number}: {{command: celery -A p worker -Q q{number}}}" for number in range(1000))
    assert len(fleet_of(tmp_path, {"compose.yml": f"services:\n{services}\n"}).workers) == 1000
