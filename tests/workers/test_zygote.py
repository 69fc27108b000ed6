"""Workers that are forked from a zygote: the same as started as programs, and gone with whoever started them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.support.programs import PATIENCE, until
from waybill import enable_receipts
from waybill.broker import Broker
from waybill.celery_app.fleet.workers import Worker
from waybill.errors import FleetError
from waybill.testing.brokers import environment, use_broker
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers, Zygote
from waybill.testing.workers.libraries import Loaded
from waybill.testing.workers.starter import Process

# With such a variable no worker is forked: the zygote's own interpreter was started without it.
AS_PROGRAM = {"PYTHON_IS_TOLD": "something"}

# What an application sees of the process that loads it. It prints that, to where the worker's log goes.
PROJECT = """
import json, locale, logging, os, random, signal, sys, threading, uuid, warnings
print("LOADED", json.dumps([name for name in ("pika", "needs_it") if name in sys.modules]), flush=True)
from celery import Celery, signals
from waybill import enable_receipts

def seen():
    return {
        "argv": sys.argv,
        "path": sys.path,
        "main": sys.modules["__main__"].__name__,
        "flags": str(sys.flags),
        "cwd": os.getcwd(),
        "environment": {name: os.environ[name] for name in os.environ if name != "PYTHON_IS_TOLD"},
        "tz": __import__("time").tzname,
        "locale": locale.setlocale(locale.LC_ALL),
        "is_leader": (os.getsid(0), os.getpgid(0)) == (os.getpid(), os.getpid()),
        "umask": (os.umask(0o22), os.umask(0o22))[1],
        "handlers": {one.name: str(signal.getsignal(one)).partition(" at ")[0] for one in signal.Signals},
        "mask": sorted(map(str, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "wakeup": signal.set_wakeup_fd(-1),
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": sorted(one for one in map(int, os.listdir("/proc/self/fd")) if _is_open(one)),
        "stdin": os.readlink("/proc/self/fd/0"),
        "logging": [str(handler) for handler in logging.getLogger().handlers],
        "warnings": [str(one) for one in warnings.filters],
        "others": [name for name in ("pytest", "tests", "exchanges", "worker") if name in sys.modules],
    }

def _is_open(descriptor):
    try:
        return os.fstat(descriptor) is not None
    except OSError:
        return False

print("SEEN", json.dumps(seen()), flush=True)
print("OWN", json.dumps([uuid.uuid4().hex, random.random(), os.getpid()]), flush=True)

app = Celery("proj", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["RESULTS"])
app.conf.task_default_queue = "todo"
app.conf.task_acks_late = True
enable_receipts(app)

@app.task(name="proj.add")
def add(a, b):
    return a + b

@app.task(name="proj.leave")
def leave(code):
    os._exit(code)

@app.task(name="proj.nap")
def nap(seconds, path):
    open(path + ".begun", "w").close()
    __import__("time").sleep(seconds)
    open(path, "w").close()
"""

KEEPS = "threads or files of a library"

POOLS = ("prefork", "threads", "solo")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    (made / "proj.py").write_text(PROJECT)
    (made / "broken.py").write_text("import proj\nraise RuntimeError('broken on purpose')\n")
    return made


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Broker() as broker:
        yield broker.url


@pytest.fixture(scope="module")
def app(url: str, folder: Path) -> Iterator[Celery]:
    made = Celery("proj", backend=results_in(folder), set_as_current=False)
    made.conf.task_default_queue = "todo"
    enable_receipts(made)
    with use_broker(made, url):
        yield made


def results_in(folder: Path) -> str:
    (folder / "results").mkdir(exist_ok=True)
    return f"file://{folder}/results"


def told(url: str, folder: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the project reads from its environment."""
    return {**environment(url), "RESULTS": results_in(folder), **(variables or {})}


def worker(*options: str, name: str = "one", app: str = "proj") -> Worker:
    arguments = ("-A", app, "worker", "-n", f"{name}@%h", "-c", "1", "--without-mingle", "--without-gossip", *options)
    return Worker(name, f"{name}@%h", ("todo",), arguments)


class Running:
    """A worker that runs, forked or not, and what it says."""

    def __init__(self, workers: LocalWorkers, name: str) -> None:
        self.workers = workers
        self.process: Process
        self.process, self._log = workers._running[name]

    @property
    def log(self) -> str:
        # Another descriptor of the same file has another position: the worker writes on at its own.
        return Path(f"/proc/self/fd/{self._log.fileno()}").read_text()

    def said(self, word: str) -> Any:
        """What stands behind this word in the log."""
        found = until(lambda: re.search(rf"^{word} (.*)\n", self.log, re.MULTILINE), f"{word} in the log")
        return json.loads(found[1])


@contextmanager
def running(
    zygote: Zygote, folder: Path, url: str, one: Worker, variables: Mapping[str, str] | None = None
) -> Iterator[Running]:
    with LocalWorkers([one], told(url, folder, variables), folder, zygote) as workers:
        yield Running(workers, one.name)
        workers.stop(wait=False)


@pytest.fixture(scope="module")
def zygote_alone() -> Iterator[Zygote]:
    """One that has loaded nothing for another application."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(params=["fork", "program"])
def variables(request: pytest.FixtureRequest) -> Mapping[str, str]:
    return AS_PROGRAM if request.param == "program" else {}


# --- a fork and a program are the same


@pytest.mark.parametrize("pool", POOLS)
def test_an_application_sees_no_difference(zygote_alone: Zygote, folder: Path, url: str, pool: str) -> None:
    with ExitStack() as stack:
        fork, program = (
            stack.enter_context(running(zygote_alone, folder, url, worker("-P", pool, name=pool), variables))
            for variables in ({}, AS_PROGRAM)
        )
        assert fork.said("SEEN") == program.said("SEEN")
        assert fork.process.pid != program.process.pid
        assert (fork.process.no_fork_reason, program.process.no_fork_reason) == ("", "the environment: PYTHON_IS_TOLD")


def test_what_is_made_at_import_is_each_workers_own(zygote_alone: Zygote, folder: Path, url: str) -> None:
    """Such as the name of a Broadcast queue: a fork of a loaded application would share it."""
    two = [worker(name=name) for name in ("one", "two")]
    with LocalWorkers(two, told(url, folder), folder, zygote_alone) as workers:
        own = [Running(workers, one.name).said("OWN") for one in two]
    assert all(one != other for one, other in zip(*own, strict=True))


@pytest.mark.parametrize("pool", POOLS)
def test_celery_tells_the_same_of_both(zygote_alone: Zygote, folder: Path, url: str, app: Celery, pool: str) -> None:
    fork, program = [facts_of(zygote_alone, folder, url, app, pool, variables) for variables in ({}, AS_PROGRAM)]
    assert fork == program
    assert fork["received"] == {"one": "todo"}


def facts_of(
    zygote: Zygote, folder: Path, url: str, app: Celery, pool: str, variables: Mapping[str, str]
) -> dict[str, Any]:
    """What a worker answers, what it receives, and what it logs, without what differs between any two runs."""
    with running(zygote, folder, url, worker("-P", pool, "-l", "info"), variables) as one:
        with Watch(app) as watch:
            watch.discover_workers(["one"], one.workers.check_alive)
            sent = watch.publish("proj.add", (2, 3))
            (delivery,) = watch.settle()
            result = app.AsyncResult(sent.task_id)
            (node,) = watch.consumers_by_worker
            inspect = app.control.inspect([node], timeout=PATIENCE, limit=1)
            stats = until(lambda: counted(inspect), "the task in the worker's count")
            facts = {
                "received": delivery.by_worker,
                "conf": comparable(inspect.conf(with_defaults=True)[node]),
                "registered": inspect.registered(),
                "queues": inspect.active_queues(),
                "stats": sorted(stats),
                "pool": {name: value for name, value in stats["pool"].items() if name not in ("processes", "writes")},
                "prefetch": stats["prefetch_count"],
                "total": stats["total"].get("proj.add"),
                "result": result.get(timeout=PATIENCE),
            }
        one.process.send_signal(signal.SIGTERM)
        facts["code"] = one.process.wait(PATIENCE)
        facts["log"] = normal(one.log)
    return facts


def counted(inspect: Any) -> Any:
    """What the one worker tells of itself, when it has counted the task: it does so when the pool has accepted it."""
    (stats,) = inspect.stats().values()
    return stats if stats["total"].get("proj.add") else None


def comparable(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a worker tells them; the modules with tasks are told in the order of a set."""
    return {name: sorted(value) if name == "include" else value for name, value in conf.items()}


def normal(log: str) -> list[str]:
    """A log without times, ids, addresses, and our own lines."""
    lines = (line for line in log.splitlines() if not line.startswith(("SEEN", "OWN")))
    varying = (
        r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d(,\d+)?|[\d.e-]+s\b|ForkPoolWorker-\d+"
    )
    return sorted(re.sub(varying, "#", line) for line in lines)


# --- how it ends

# what happens to a worker that is ready -> its exit code
ENDINGS: tuple[tuple[str, Callable[[Running, Celery], object], int], ...] = (
    ("SIGTERM", lambda one, _: one.process.send_signal(signal.SIGTERM), 0),
    ("SIGINT", lambda one, _: one.process.send_signal(signal.SIGINT), 1),
    ("SIGQUIT", lambda one, _: one.process.send_signal(signal.SIGQUIT), 0),
    ("SIGKILL", lambda one, _: one.process.send_signal(signal.SIGKILL), -9),
    ("it leaves", lambda _, app: app.send_task("proj.leave", (7,)), 7),
)


@pytest.mark.parametrize(("end", "code"), [ending[1:] for ending in ENDINGS], ids=[ending[0] for ending in ENDINGS])
def test_the_exit_code_is_the_same(
    zygote_alone: Zygote,
    folder: Path,
    url: str,
    app: Celery,
    variables: Mapping[str, str],
    end: Callable[[Running, Celery], object],
    code: int,
) -> None:
    with running(zygote_alone, folder, url, worker("-P", "solo"), variables) as one, Watch(app) as watch:
        watch.discover_workers(["one"], one.workers.check_alive)
        end(one, app)
        assert one.process.wait(PATIENCE) == code
        with pytest.raises(FleetError, match=f"worker 'one' ended with exit code {code}"):
            one.workers.check_alive()
    app.control.purge()


# a command that cannot work -> its exit code, and what its log says
FAILURES = (
    (worker(app="broken"), 2, "broken on purpose"),
    (worker(app="nosuch"), 2, "The module nosuch was not found"),
    (worker("--nosuch"), 2, "No such option: --nosuch"),
)


@pytest.mark.parametrize(("command", "code", "last"), FAILURES)
def test_a_worker_that_cannot_start_says_the_same(
    zygote_alone: Zygote,
    folder: Path,
    url: str,
    variables: Mapping[str, str],
    command: Worker,
    code: int,
    last: str,
) -> None:
    with running(zygote_alone, folder, url, command, variables) as one:
        assert one.process.wait(PATIENCE) == code
        assert last in one.log


# --- what isn't forked

# what is asked for -> why it is no fork, where it isn't
FORKED: tuple[tuple[tuple[str, ...], Mapping[str, str], str, str], ...] = (
    ((), {}, "", ""),
    (("-P", "threads"), {}, "", ""),
    ((), {"MY_SETTING": "1", "CELERY_BROKER_URL": "memory://"}, "", ""),
    (("-P", "gevent"), {}, "", "the pool gevent"),
    (("--pool=eventlet",), {}, "", "the pool eventlet"),
    (("-Pgevent",), {}, "", "the pool gevent"),
    ((), {"PYTHON_IS_TOLD": ""}, "", "the environment: PYTHON_IS_TOLD"),
    ((), {"KOMBU_LOG_CONNECTION": "1"}, "", "the environment: KOMBU_LOG_CONNECTION"),
    ((), {"C_REMDEBUG": "1"}, "", "the environment: C_REMDEBUG"),
    ((), {}, "celery.py", "modules of FOLDER: celery"),
    ((), {}, "json/__init__.py", "modules of FOLDER: json"),
    ((), {}, "tasks.py", ""),
)


@pytest.mark.parametrize(("options", "variables", "file", "difference"), FORKED)
def test_what_a_fork_would_change_is_started_as_a_program(
    zygote_alone: Zygote,
    tmp_path: Path,
    url: str,
    options: tuple[str, ...],
    variables: Mapping[str, str],
    file: str,
    difference: str,
) -> None:
    if file:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with running(zygote_alone, tmp_path, url, worker(*options), variables) as one:
        assert one.process.pid
        assert one.process.no_fork_reason == difference.replace("FOLDER", str(tmp_path))


# --- libraries

# module that a zygote is told to load -> its text, what a worker then finds loaded, and why it is no fork
LIBRARIES: tuple[tuple[str, str, list[str], str], ...] = (
    ("pika", "", ["pika"], ""),
    ("needs_it", "import proj", [], ""),
    ("needs_it", "raise SystemExit(1)", [], ""),
    ("needs_it", "import pika, os; os.environ['MY_SETTING']", ["pika"], "the environment: MY_SETTING"),
    ("needs_it", "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", [], KEEPS),
    ("needs_it", "import socket; kept = socket.socket()", [], KEEPS),
    ("needs_it", "try: import proj\nexcept ImportError: pass", [], "needs_it looks for proj"),
)


@pytest.mark.parametrize(("library", "text", "found", "difference"), LIBRARIES)
def test_libraries_are_loaded_once_for_all_workers(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    folder: Path,
    url: str,
    library: str,
    text: str,
    found: list[str],
    difference: str,
) -> None:
    if text:
        (tmp_path / f"{library}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with Zygote() as zygote:
        zygote.load(Loaded((library,), ("proj",)))
        with running(zygote, folder, url, worker("-P", "solo"), {"MY_SETTING": "1"}) as one:
            assert one.said("LOADED") == ([] if difference else found)
            assert one.process.pid
            assert one.process.no_fork_reason == difference


def test_the_libraries_of_one_application_are_not_anothers(folder: Path, url: str) -> None:
    with Zygote() as zygote:
        zygote.load(Loaded(("pika",), ("another",)))
        with running(zygote, folder, url, worker("-P", "solo")) as one:
            assert one.said("LOADED") == []
            assert one.process.pid
            assert one.process.no_fork_reason == "libraries that proj may not load"


# --- nothing is left behind

# A starter of its own: it tells the pids of the zygote and of the worker, with that of its pool, and then waits.
STARTER = """
import json, sys
from pathlib import Path
from waybill.broker import Broker
from waybill.testing.watch import Watch
from waybill.celery_app.fleet.workers import Worker
from waybill.testing.brokers import environment
from waybill.testing.workers import LocalWorkers, Zygote
folder, *options = sys.argv[1:]
one = Worker("one", "one@%h", ("todo",), ("-A", "proj", "worker", "-n", "one@%h", "-c", "2", *options))
with Broker() as broker, Zygote() as zygote:
    import os
    os.environ |= {"CELERY_BROKER_URL": broker.url, "RESULTS": "rpc://"}
    with LocalWorkers([one], environment(broker.url), Path(folder), zygote) as workers:
        sys.path.insert(0, folder)
        sys.stdout = sys.stderr
        from proj import app
        sys.stdout = sys.__stdout__
        with Watch(app) as watch:
            watch.discover_workers(["one"], workers.check_alive)
            (stats,) = app.control.inspect().stats().values()
        print(json.dumps([zygote.pid, stats["pid"], *stats["pool"]["processes"]]), flush=True)
        sys.stdin.read()
"""


def is_gone(pid: int) -> bool:
    """Whether no such process runs; one that has ended and wasn't waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def starter(folder: Path, *options: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(folder), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **variables},
    )
    assert process.stdin
    assert process.stdout
    with process:
        try:
            pids = json.loads(process.stdout.readline())
            assert not any(map(is_gone, pids))
            yield process, pids
        finally:
            process.kill()


@pytest.mark.parametrize("which", ["starter", "zygote", "worker"])
def test_whoever_is_killed_takes_down_what_it_started(folder: Path, which: str) -> None:
    with starter(folder) as (process, pids):
        zygote, one, *pool = pids
        assert len(pool) == 2
        killed = {"starter": process.pid, "zygote": zygote, "worker": one}[which]
        os.kill(killed, signal.SIGKILL)
        left = pool if which == "worker" else pids
        until(lambda: all(map(is_gone, left)), f"{left} have ended")


def test_at_the_end_of_the_starter_nothing_is_left(folder: Path) -> None:
    with starter(folder) as (process, pids):
        process.communicate()
        assert process.returncode == 0
        assert all(map(is_gone, pids))


def test_a_zygote_that_has_ended_is_one_line(folder: Path, url: str) -> None:
    with Zygote() as zygote, LocalWorkers([worker()], told(url, folder), folder, zygote) as workers:
        one = Running(workers, "one")
        pid = one.process.pid
        os.kill(zygote.pid, signal.SIGKILL)
        until(lambda: is_gone(pid), "the worker has ended")
        with pytest.raises(FleetError, match=r"^the process that starts the workers has ended$"):
            workers.check_alive()
        with pytest.raises(FleetError, match=r"^the process that starts the workers has ended$"):
            workers.start(worker(name="two"))
        assert one.process.poll() == -signal.SIGKILL
        workers.stop()


def test_a_worker_that_is_stopped_unawaited_may_finish_its_task(
    folder: Path, url: str, app: Celery, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    with (
        Zygote() as zygote,
        LocalWorkers([worker()], told(url, folder), folder, zygote) as workers,
        Watch(app) as watch,
    ):
        watch.discover_workers(["one"], workers.check_alive)
        pid = Running(workers, "one").process.pid
        watch.publish("proj.nap", (1, str(done)))
        until(lambda: done.with_suffix(".begun").exists(), "the task has begun")
        workers.stop(grace=PATIENCE, wait=False)
        assert not is_gone(pid)
    assert done.exists()
    assert is_gone(pid)


def test_a_worker_that_does_not_stop_is_killed_unawaited(folder: Path, url: str) -> None:
    with Zygote() as zygote, LocalWorkers([worker()], told(url, folder), folder, zygote) as workers:
        pid = Running(workers, "one").process.pid
        os.kill(pid, signal.SIGSTOP)
        workers.stop(grace=0.0, wait=False)
        until(lambda: is_gone(pid), "the worker has ended")


def test_a_worker_says_why_celery_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, url: str
) -> None:
    (tmp_path / "celery.py").write_text("raise RuntimeError('no celery here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(tmp_path)
    with Zygote() as zygote, LocalWorkers([worker()], told(url, folder), folder, zygote) as workers:
        with pytest.raises(FleetError, match=r"worker 'one' ended with exit code 1: .*no celery here"):
            until(workers.check_alive, "the worker has ended")
        workers.stop()
