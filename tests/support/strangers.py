"""Situations from public reports, as applications that nobody wrote for the rules, with the findings that are right."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import check_example
from waybill.celery_app import installed

HEAD = """
import os, re
from celery import Celery, chain
from kombu import Exchange, Queue
app = Celery("{name}", broker="amqp://nobody@127.0.0.1:1//")
"""


@dataclass(frozen=True)
class Situation:
    """One application, and what is right.

    Attributes:
        found: code and severity of each finding, in the report's order.
        says: texts that the report has, on standard output.
        since: the Celery that brought a setting of it.
    """

    name: str
    code: str
    found: tuple[str, ...] = ()
    fleet: str = ""
    says: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    since: tuple[int, int] = (5, 3)


TASK = "\n@app.task(name='{name}.index')\ndef index(): ...\n"
REPORTS = (
    "app.conf.task_queues = [Queue('celery'), Queue('reports')]\n"
    "@app.task(name='{name}.report', queue='reports')\ndef report(): ...\n"
)
RETRIES = """
app.conf.task_default_queue = app.conf.task_default_exchange = "tasks"
app.conf.task_default_exchange_type = "topic"
app.conf.task_queues = [Queue("tasks", routing_key="task.#")]
for n in range(24):
    def run(self): raise self.retry(countdown=60)
    app.task(bind=True, name=f"{name}.t{{n:02}}")(run)
"""
ROUTER = """
app.conf.task_queues = [Queue("celery"), Queue("build.small"), Queue("build.large")]
class Router:
    def route_for_task(self, task, args=None, kwargs=None, **_):
        if task == "{name}.sync":
            return {{"queue": f"build.{{args[1]}}"}}
        return {{"queue": "build.large" if kwargs["conda"] else "build.small"}} if task == "{name}.build" else None
app.conf.task_routes = [Router()]
@app.task(name="{name}.build")
def build(version, conda=False): ...
@app.task(name="{name}.sync")
def sync(version, size): ...
def later():
    sync.apply_async(args=["latest", "huge"])
"""

IMPORTS = "import sys\nsys.path.insert(0, os.path.abspath('site-packages'))\nimport {name}_images\n"
LIBRARY = {
    "site-packages/{name}_images.py": "from celery import shared_task\n@shared_task(name='{name}_images.shrink')\n"
    "def shrink(): ...\n"
}

# A dead-letter queue and an alternate's, as tutorials have them: declared in task_queues.
DEAD = (
    "app.conf.task_queues = [\n"
    "    Queue('orders', Exchange('orders'), 'orders', queue_arguments={{'x-dead-letter-exchange': 'orders.dead'}}),\n"
    "    Queue('orders_dead', Exchange('orders.dead', 'fanout'), 'dead')]\n"
    "app.conf.task_default_queue = 'orders'\n"
    "@app.task(name='{name}.cancel', acks_late=True, reject_on_worker_lost=True)\ndef cancel(): ...\n"
    "app.conf.broker_transport_options = {{'confirm_publish': True}}\n"
)
UNFILED = (
    "app.conf.task_queues = [\n"
    "    Queue('celery'), Queue('unfiled', Exchange('unfiled', 'fanout'), 'any'),\n"
    "    Queue('usa', Exchange('news', 'topic', arguments={{'alternate-exchange': 'unfiled'}}), 'usa.#')]\n" + TASK
)

DIRECT = "app.conf.worker_direct = True\n" + TASK + "def view():\n    index.apply_async({to})\n"
THERE = "exchange='C.dq2', routing_key='w@one'"

SITUATIONS = (
    Situation(
        "a blank in -Q",
        REPORTS,
        ("WB119 error", "WB118 warning"),
        "w: celery -A {name} worker -Q 'celery, reports'",
        ("one consumes ` reports`", "did you mean `reports`?"),
    ),
    Situation("-X", REPORTS, ("WB119 error",), "w: celery -A {name} worker -X reports"),
    Situation("no -Q", REPORTS, (), "w: celery -A {name} worker"),
    Situation(
        "a script that isn't here",
        REPORTS,
        ("WB119 note",),
        "w: celery -A {name} worker -n w@%h -Q celery\nother_worker: ./start.sh",
        ("perhaps one that couldn't be read does: other_worker (its script ./start.sh isn't here)", "not read: other"),
    ),
    Situation(
        "only a script",
        TASK,
        (),
        "worker: ./start.sh",
        ("not read: worker (its script ./start.sh isn't here)", "or a Procfile with them"),
    ),
    Situation(
        "a foreign application",
        REPORTS,
        (),
        "w: celery -A {name} worker -n w@%h -Q celery,reports\ns: celery -A nosuch_app worker -n s@%h -Q celery",
        ("not read: cannot load the application 'nosuch_app': ModuleNotFoundError", "(s)"),
    ),
    Situation(
        "who consumes what is the same on Redis",
        REPORTS + TASK + "app.conf.broker_url = 'redis://127.0.0.1:1'\n",
        ("WB119 error", "WB112 warning", "WB118 warning", "WB403 note"),
        "w: celery -A {name} worker -n w@%h -Q repotrs",
    ),
    Situation(
        "a key that no binding takes is lost on Redis, too",
        "app.conf.task_queues = [Queue('celery'), Queue('usa', Exchange('news', 'topic'), 'usa.#')]\n"
        "app.conf.broker_url = 'redis://127.0.0.1:1'\n"
        "@app.task(name='{name}.report', exchange='news', routing_key='us.x')\ndef report(): ...\n",
        ("WB105 error", "WB403 note"),
    ),
    Situation(
        "a queue that Celery creates as a quorum queue delays natively",
        "app.conf.task_create_missing_queue_type = 'quorum'\n"
        "app.conf.task_create_missing_queue_exchange_type = 'topic'\n"
        "app.conf.task_routes = {{'{name}.index': {{'queue': 'packing'}}}}\n"
        + TASK
        + "def later():\n    index.apply_async(countdown=3)\n",
        (),
        "w: celery -A {name} worker -Q packing,celery",
        since=(5, 6),
    ),
    Situation(
        "a router that reads arguments",
        ROUTER,
        ("WB111 error", "WB119 error"),
        "w: celery -A {name} worker -Q celery,build.small,build.large",
        (
            "`{name}.sync` reaches `build.huge`",
            "not checked: the router",
            "fails on '{name}.build'",
            "KeyError: 'conda'",
        ),
    ),
    Situation(
        "routes of Celery's own tasks",
        "app.conf.task_routes = {{'celery.chord_unlock': {{'queue': 'fast'}}, '{name}.index': {{'queue': 'fast'}}}}\n"
        + TASK,
    ),
    Situation(
        "a priority that every task has",
        "app.conf.task_default_priority = 5\n" + TASK,
    ),
    Situation(
        "equal declarations",
        "app.conf.task_queues = [Queue('celery'), Queue('a', routing_key='a'), Queue('a', routing_key='a')]\n" + TASK,
    ),
    Situation(
        "one cause, many tasks",
        RETRIES,
        ("WB102 warning", "WB117 note"),
        says=("and 21 more", "with a delay, they wait in a worker of `tasks`"),
        arguments=("--rabbitmq", "4.3"),
    ),
    Situation(
        "a setting like an old one",
        "class Conf:\n    CELERY_TASK_ACKS_LATE = False\n    CELERYD_SOFT_TIME_LIMIT = 600\n"
        "app.config_from_object(Conf, namespace='CELERY')\n" + TASK,
        ("WB307 warning",),
        says=("did you mean `CELERY_TASK_SOFT_TIME_LIMIT`?",),
    ),
    Situation(
        "a setting without its prefix",
        "class Conf:\n    TASK_ACKS_LATE = True\n    DEBUG = True\napp.config_from_object(Conf, namespace='CELERY')\n"
        + TASK,
        ("WB307 warning",),
        says=("did you mean `CELERY_TASK_ACKS_LATE`?",),
    ),
    Situation(
        "routes without the outer list",
        "app.conf.task_routes = [('{name}.*', {{'queue': 'celery'}}), (re.compile('x'), {{'queue': 'celery'}})]\n"
        + TASK,
        ("WB122 error",),
        says=("the setting task_routes is malformed: a list of pairs must be a list within the list",),
    ),
    Situation(
        "a queue that is a mapping",
        "app.conf.task_routes = {{'{name}.index': {{'queue': {{'name': 'a'}}}}}}\n" + TASK,
        ("WB122 error",),
        says=("the queue of '{name}.index': expected its name or a kombu.Queue",),
    ),
    Situation(
        "an exchange of a plugin that nobody knows leaves the rest as it is",
        "once = Exchange('once', 'x-message-deduplication', arguments={{'x-cache-size': 9}})\n"
        "app.conf.task_queues = [Queue('celery'), Queue('once', once, 'once')]\n"
        "@app.task(name='{name}.once', exchange='once', routing_key='once')\ndef once(): ...\n" + TASK,
        ("WB216 note",),
        says=("which may be a plugin's: where a message goes from there can't be told here",),
    ),
    Situation(
        "a misspelt type",
        "app.conf.task_queues = [Queue('celery'), Queue('usa', Exchange('news', 'topci'), 'usa.#')]\n" + TASK,
        ("WB216 error",),
        says=("406 unknown exchange type 'topci'; did you mean `topic`?",),
    ),
    Situation(
        "a delayed exchange that doesn't say as what it routes",
        "app.conf.task_queues = [Queue('celery'), Queue('mail', Exchange('later', 'x-delayed-message'), 'mail')]\n"
        "@app.task(name='{name}.mail', exchange='later', routing_key='mail')\ndef mail(): ...\n" + TASK,
        ("WB204 error",),
        says=("406 Invalid argument, 'x-delayed-type' must be an existing exchange type", '"x-delayed-type": "direct"'),
    ),
    Situation(
        "one of several queues, by chance",
        "dice = Exchange('dice', 'x-random')\n"
        "app.conf.task_queues = [Queue('celery'), Queue('a', dice, 'a'), Queue('b', dice, 'b')]\n"
        "@app.task(name='{name}.throw', bind=True, exchange='dice', routing_key='k')\n"
        "def throw(self): raise self.retry()\n",
    ),
    Situation(
        "a dead-letter queue that no worker consumes",
        DEAD,
        ("WB210 error",),
        "w: celery -A {name} worker -Q orders",
        ("go to `orders.dead`, which nobody declares", "waybill declare before the workers start"),
    ),
    Situation(
        "a dead-letter queue with a worker of its own",
        DEAD,
        (),
        "w: celery -A {name} worker -n w@%h -Q orders\nd: celery -A {name} worker -n d@%h -Q orders_dead",
    ),
    Situation(
        "the code declares it by itself",
        DEAD + "def install():\n    with app.pool.acquire() as connection:\n"
        "        app.amqp.queues['orders_dead'](connection).declare()\n",
        (),
        "w: celery -A {name} worker -Q orders",
    ),
    Situation("a fleet of another application", DEAD, ("WB112 warning",), "w: celery -A nosuch worker -Q elsewhere"),
    Situation("a worker that consumes all of them", DEAD, ("WB320 warning",), "w: celery -A {name} worker"),
    Situation(
        "perhaps another worker consumes it", DEAD, (), "w: celery -A {name} worker -Q orders\nworker2: ./run.sh"
    ),
    Situation(
        "an alternate exchange of a queue that no worker consumes",
        UNFILED,
        ("WB211 error",),
        "w: celery -A {name} worker -Q celery,usa",
        ("its alternate exchange is `unfiled`, which nobody declares",),
    ),
    Situation(
        "a result backend that isn't installed",
        "app.conf.result_backend = 'django-db-typo'\n" + TASK + "def later():\n    index.apply_async(countdown=60)\n",
        ("WB315 error",),
        says=("can't load the result backend `django-db-typo`: No module named",),
    ),
    Situation("to one worker", DIRECT.replace("{to}", THERE)),
    Situation("to one worker of the fleet", DIRECT.replace("{to}", THERE), (), "w: celery -A {name} worker -n w@one"),
    Situation(
        "to a worker that isn't there",
        DIRECT.replace("{to}", THERE),
        ("WB105 error",),
        "w: celery -A {name} worker -n w@two",
    ),
    Situation(
        "a worker's own queue by the name that it had",
        DIRECT.replace("{to}", "queue='w@one.dq'"),
        ("WB119 error",),
        "w: celery -A {name} worker -n w@one",
        ("one consumes `w@one.dq2`", 'queue="w@one.dq2", or celery'),
    ),
    Situation(
        "a library's task that nobody here sends",
        IMPORTS + "app.conf.task_routes = {{'{name}.index': {{'queue': 'work'}}}}\n" + TASK,
        ("WB112 note",),
        "w: celery -A {name} worker -Q work",
        files=LIBRARY,
    ),
    Situation(
        "a library's task that is sent",
        IMPORTS
        + "app.conf.task_routes = {{'{name}.index': {{'queue': 'work'}}}}\n"
        + TASK
        + "def view():\n    {name}_images.shrink.delay()\n",
        ("WB112 warning",),
        "w: celery -A {name} worker -Q work",
        files=LIBRARY,
    ),
    Situation(
        "a queue unlike any that is declared",
        REPORTS + "def view():\n    report.apply_async(queue='zzz')\n    app.send_task('billing.pay', queue='bills')\n",
        ("WB111 warning", "WB111 note"),
        says=("declares no queue `zzz`", "`-Q` names it"),
    ),
    Situation(
        "a worker that is told at its start to consume more",
        REPORTS + "from celery.signals import worker_ready\n@worker_ready.connect\ndef more(sender, **_):\n"
        "    app.control.add_consumer('reports', destination=[sender.hostname])\n",
        ("WB119 note",),
        "w: celery -A {name} worker -n w@%h -Q celery",
        ("perhaps one that couldn't be read does: ", "(its code consumes queues by itself)"),
    ),
    Situation(
        "a view that no worker imports",
        REPORTS,
        ("WB111 error", "WB124 error"),
        says=("web/views.py:4", "web/views.py:5", "read 2 files: 3 calls, 1 not literal (web/views.py:6)"),
        files={
            "web/views.py": "from {name} import app, report\n\n"
            "def view(queue):\n    report.apply_async(queue='reprots')\n"
            "    app.send_task('{name}.reprot')\n    report.apply_async(queue=queue)\n"
        },
    ),
)


def write(situation: Situation, folder: Path, monkeypatch: pytest.MonkeyPatch, prefix: str = "stranger") -> str:
    """Write the situation's files into the folder, which becomes the current one; the application's name.

    Args:
        prefix: how that name begins: two tests that load the situation in one process take two.
    """
    if not installed.since(situation.since):
        pytest.skip(f"this has a setting that came with Celery {situation.since[0]}.{situation.since[1]}")
    name = f"{prefix}{SITUATIONS.index(situation)}"
    check_example.isolate(monkeypatch, folder)
    check_example.forget_shared_tasks(monkeypatch)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / f"{name}.py").write_text((HEAD + situation.code).format(name=name))
    for file, text in situation.files.items():
        path = folder / file.format(name=name)
        path.parent.mkdir()
        path.write_text(text.format(name=name))
    (folder / "Procfile").write_text(situation.fleet.format(name=name))
    return name
