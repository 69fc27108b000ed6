"""The calls of a project, read in its source: what each form of call publishes, and what is counted as not literal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from celery import Celery, _state

from tests.support import check_example
from waybill.celery_app.calls.reading import read_source
from waybill.celery_app.calls.values import DELAY, Source

TASKS = """
from celery import Celery, shared_task
app = Celery("proj")
QUEUE = "mails"

@app.task
def report(x=0): ...

@shared_task(name="mail.send", bind=True)
def send(self, x=0):
    {bound}
"""


def read(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, bound: str = "...", **files: str) -> Source:
    """The source of a project with two tasks, and a view that nobody imports."""
    sources = {
        "proj/__init__.py": "",
        "proj/tasks.py": TASKS.replace("{bound}", bound),
        "web/__init__.py": "",
        "web/views.py": textwrap.dedent(code),
        **files,
    }
    for name, text in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    check_example.isolate(monkeypatch, folder)
    monkeypatch.setattr(_state, "_on_app_finalizers", set())  # shared tasks of other tests
    return read_source(Celery("proj", set_as_current=False))


def shown(source: Source) -> list[tuple[str, Mapping[str, Any]]]:
    return [(call.task, dict(call.options)) for call in source.calls]


REPORT, SEND = "proj.tasks.report", "mail.send"
IMPORT = "from proj.tasks import report, send\n"

# Code -> the tasks that it publishes with their options
READ: tuple[tuple[str, list[tuple[str, dict[str, Any]]]], ...] = (
    (IMPORT + "report.delay()", [(REPORT, {})]),
    (IMPORT + "report.apply_async(queue='a')", [(REPORT, {"queue": "a"})]),
    (
        IMPORT + "def view():\n    report.apply_async((1,), queue='a', priority=3)",
        [(REPORT, {"queue": "a", "priority": 3})],
    ),
    ("def view():\n    from proj.tasks import report\n    report.delay(1)", [(REPORT, {})]),
    ("from proj.tasks import report as r\nr.delay()", [(REPORT, {})]),
    ("import proj.tasks\nproj.tasks.report.delay()", [(REPORT, {})]),
    ("import proj.tasks as t\nt.report.apply_async(queue='a')", [(REPORT, {"queue": "a"})]),
    ("from proj import tasks\ntasks.report.delay()", [(REPORT, {})]),
    ("from proj.tasks import *\nfrom proj import tasks as t\nt.send.delay()", [(SEND, {})]),
    # constants, of this module and of others
    (IMPORT + "Q = 'a'\nreport.apply_async(queue=Q)", [(REPORT, {"queue": "a"})]),
    (IMPORT + "from proj.tasks import QUEUE\nreport.apply_async(queue=QUEUE)", [(REPORT, {"queue": "mails"})]),
    ("from proj import tasks\ntasks.report.apply_async(queue=tasks.QUEUE)", [(REPORT, {"queue": "mails"})]),
    (IMPORT + "P = 'x'\nreport.apply_async(queue=P + '.a')", [(REPORT, {"queue": "x.a"})]),
    (IMPORT + "P = 'x'\nreport.apply_async(queue=f'{P}.a')", [(REPORT, {"queue": "x.a"})]),
    (IMPORT + "report.apply_async(countdown=60 * 60)", [(REPORT, {"countdown": 3600})]),
    (IMPORT + "report.apply_async(priority=-1)", [(REPORT, {"priority": -1})]),
    (IMPORT + "report.apply_async(queue=None, headers={'a': 1})", [(REPORT, {"headers": {"a": 1}})]),
    # options in a mapping, and simple flow
    (IMPORT + "O = {'queue': 'a'}\nreport.apply_async(**O)", [(REPORT, {"queue": "a"})]),
    (
        IMPORT + "O = dict(queue='a')\nreport.apply_async((), {}, priority=1, **O)",
        [(REPORT, {"priority": 1, "queue": "a"})],
    ),
    (IMPORT + "def f():\n    o = {}\n    o['queue'] = 'a'\n    report.apply_async(**o)", [(REPORT, {"queue": "a"})]),
    (IMPORT + "report.apply_async(**{'queue': 'a', 'task_id': 'x'})", [(REPORT, {"queue": "a"})]),
    (
        IMPORT + "def f(x):\n    if x:\n        q = 'a'\n    else:\n        q = 'b'\n    report.apply_async(queue=q)",
        [(REPORT, {"queue": "a"}), (REPORT, {"queue": "b"})],
    ),
    (
        IMPORT + "def f(x):\n    report.apply_async(queue='a' if x else 'b')",
        [(REPORT, {"queue": "a"}), (REPORT, {"queue": "b"})],
    ),
    (
        IMPORT + "for q in ('a', 'b'):\n    report.apply_async(queue=q)",
        [(REPORT, {"queue": "a"}), (REPORT, {"queue": "b"})],
    ),
    (IMPORT + "def f(x):\n    t = report if x else send\n    t.delay()", [(REPORT, {}), (SEND, {})]),
    # what isn't known and decides nothing
    (IMPORT + "import datetime\nreport.apply_async(eta=datetime.datetime.now())", [(REPORT, {"countdown": DELAY})]),
    (
        IMPORT + "def f(n):\n    report.apply_async(countdown=n, queue='a')",
        [(REPORT, {"countdown": DELAY, "queue": "a"})],
    ),
    (IMPORT + "def f(n):\n    report.apply_async((n,), expires=n, task_id=n)", [(REPORT, {})]),
    # signatures
    (IMPORT + "report.s(1).apply_async(queue='a')", [(REPORT, {"queue": "a"})]),
    (IMPORT + "report.s(1).set(queue='a').apply_async(countdown=1)", [(REPORT, {"queue": "a", "countdown": 1})]),
    (IMPORT + "report.si().delay()", [(REPORT, {})]),
    (IMPORT + "report.signature((1,), queue='a').delay()", [(REPORT, {"queue": "a"})]),
    (IMPORT + "s = report.s()\ns.set(priority=2).delay()", [(REPORT, {"priority": 2})]),
    ("from celery import signature\nsignature('other.task', queue='a').delay()", [("other.task", {"queue": "a"})]),
    ("import celery\ncelery.signature('other.task', options={'queue': 'a'}).delay()", [("other.task", {"queue": "a"})]),
    # canvases
    (
        IMPORT + "from celery import chain\nchain(report.s(), send.s().set(queue='b'))()",
        [(REPORT, {}), (SEND, {"queue": "b"})],
    ),
    (
        IMPORT + "from celery import chain\nchain(report.s(), send.s()).apply_async(priority=9)",
        [(REPORT, {"priority": 9}), (SEND, {})],
    ),
    (IMPORT + "(report.s() | send.s()).delay()", [(REPORT, {}), (SEND, {})]),
    (
        IMPORT + "from celery import group\ngroup([report.s(), send.s()]).apply_async(queue='g')",
        [(REPORT, {"queue": "g"}), (SEND, {"queue": "g"})],
    ),
    (IMPORT + "from celery import group\ngroup(report.s(i) for i in range(9)).delay()", [(REPORT, {})]),
    (
        IMPORT + "from celery import chord\nchord([report.s()], send.s().set(queue='c')).delay()",
        [(REPORT, {}), (SEND, {"queue": "c"})],
    ),
    (IMPORT + "from celery import chord\nchord([report.s()])(send.s())", [(REPORT, {}), (SEND, {})]),
    (
        IMPORT + "report.apply_async(link=send.s().set(queue='l'), link_error=[send.si()])",
        [(REPORT, {}), (SEND, {"queue": "l"}), (SEND, {})],
    ),
    # by name
    (
        "from proj.tasks import app\napp.send_task('proj.tasks.reprot', queue='a')",
        [("proj.tasks.reprot", {"queue": "a"})],
    ),
    ("from celery import current_app\ncurrent_app.send_task(name='x.y', args=[1])", [("x.y", {})]),
    ("N = 'x.y'\ndef f(app):\n    app.send_task(N, (1,), {'a': 2}, routing_key='k')", [("x.y", {"routing_key": "k"})]),
)


@pytest.mark.parametrize(("code", "expected"), READ, ids=[row[0].removeprefix(IMPORT)[:60] for row in READ])
def test_what_is_read(
    code: str, expected: list[tuple[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(tmp_path, monkeypatch, code)
    assert shown(source) == expected
    assert source.not_literal == ()


# Code -> how many of its calls can't be read; none of them is told as something else
NOT_LITERAL: tuple[tuple[str, int], ...] = (
    (IMPORT + "def f(q):\n    report.apply_async(queue=q)", 1),
    (IMPORT + "def f(**o):\n    report.apply_async(**o)", 1),
    (IMPORT + "import os\nreport.apply_async(queue=os.environ['Q'])", 1),
    (IMPORT + "def f(q):\n    report.s().set(queue=q).delay()", 1),
    (IMPORT + "from kombu import Queue\nreport.apply_async(queue=Queue('a'))", 1),
    (IMPORT + "q = 'a'\nq += 'b'\nreport.apply_async(queue=q)", 1),
    ("def f(task):\n    task.apply_async(queue='a')", 1),
    ("def f(task):\n    task.delay()", 1),
    ("from django.conf import settings\ndef f(app):\n    app.send_task(settings.NAME)", 1),
    (IMPORT + "from celery import chain\ndef f(s):\n    chain(report.s(), s).delay()", 1),
    ("timer.delay()", 0),
    ("import threading\nthreading.Timer(1, print).delay", 0),
    ("def apply_async(): ...\napply_async()", 0),
)


@pytest.mark.parametrize(("code", "count"), NOT_LITERAL)
def test_what_is_counted(code: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read(tmp_path, monkeypatch, code)
    assert len(source.not_literal) == count
    assert all(one.startswith("web/views.py:") for one in source.not_literal)
    assert not any(call.options for call in source.calls)


def test_arguments_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = IMPORT + "report.delay(1, x='a')\nreport.apply_async([2], {'x': 3})\nreport.apply_async(args=(4,))\n"
    source = read(tmp_path, monkeypatch, code + "def f(n):\n    report.delay(n)\n")
    assert [(call.args, call.kwargs) for call in source.calls] == [
        ((1,), {"x": "a"}),
        ((2,), {"x": 3}),
        ((4,), {}),
        (None, {}),
    ]


@pytest.mark.parametrize(("count", "read_"), [(30, 30), (51, 0)])
def test_many_values_are_all_read_or_counted(
    count: int, read_: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"q{at}" for at in range(count)]
    source = read(tmp_path, monkeypatch, IMPORT + f"for q in {names}:\n    report.apply_async(queue=q)\n")
    assert [call.options["queue"] for call in source.calls] == names[:read_]
    assert len(source.not_literal) == (0 if read_ else 1)


def test_a_chain_keeps_its_options_for_the_first_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = IMPORT + "from celery import chain\nchain(report.s(), send.s()).apply_async(priority=9)"
    first, second = read(tmp_path, monkeypatch, code).calls
    assert not first.in_chain
    assert (second.in_chain, second.chain_options) == (True, {"priority": 9})


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ("self.retry(countdown=5)", []),
        ("self.retry(queue='slow')", [(SEND, {"queue": "slow"})]),
        ("raise self.replace(report.s().set(queue='r'))", [(REPORT, {"queue": "r"})]),
        ("self.apply_async(queue='again')", [(SEND, {"queue": "again"})]),
        ("self.s(1).delay()", [(SEND, {})]),
    ],
)
def test_a_bound_task_publishes_itself(
    bound: str, expected: list[tuple[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(read(tmp_path, monkeypatch, "", bound)) == expected


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests, virtual environments and foreign packages aren't the project's; what is no Python is named."""
    call = IMPORT + "report.apply_async(queue='a')\n"
    source = read(
        tmp_path,
        monkeypatch,
        "",
        **{
            "tests/test_it.py": call,
            "web/test_views.py": call,
            ".venv/lib/x.py": call,
            "own/pyvenv.cfg": "",
            "own/lib.py": call,
            "node_modules/x.py": call,
            "web/broken.py": "def f(:\n    report.delay()",
            "web/latin.py": "# \xe9\nreport.delay()",
            "src/inner/jobs.py": call,
            "scripts/tasks.py": "from celery import shared_task\n@shared_task\ndef clean(): ...\n",
            "scripts/run.py": "from tasks import clean\nclean.delay()\n",
        },
    )
    assert [call.where for call in source.calls] == ["scripts/run.py:2", "src/inner/jobs.py:2"]
    assert [one.partition(":")[0] for one in source.unreadable] == ["web/broken.py"]
    assert {"proj.tasks.report", "mail.send", "scripts.tasks.clean"} <= source.defined


def test_nesting_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "x = " + "(" * 150 + "1" + ")" * 150 + "\n" + "a = b\nb = a\n" + IMPORT + "report.apply_async(queue=a)\n"
    assert len(read(tmp_path, monkeypatch, deep).not_literal) == 1


def test_a_thousand_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = IMPORT + "\n".join(f"def f{at}():\n    report.apply_async(queue='q{at}')" for at in range(10))
    files = {f"many/m{at}.py": module for at in range(1000)}
    began = perf_counter()
    source = read(tmp_path, monkeypatch, "", **files)
    print(f"{len(source.calls)} calls in {perf_counter() - began:.1f} s")
    assert len(source.calls) == 10_000
