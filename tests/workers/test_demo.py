"""The demo as somebody meets it: installed, started, watched, and interrupted at any moment."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import IO

import pytest

from publishers.__main__ import EXCHANGE_LESSONS, GROUPS, LESSONS
from tests.support.programs import MARK, PATIENCE, ROOT, call, processes_with, until, without_progress
from tools import install as installer
from tools.install import name_of
from waybill.cli.status import Status

# Seconds of silence, and until an interrupted program is gone: 2 on a quiet machine, and these are for a busy one.
SILENCE, GONE = 8.0, 10.0


@dataclass
class Program:
    """`python -m ...` in a session of its own, with a folder of its own for temporary files.

    Attributes:
        lines: what it printed so far: seconds after its start, `out` or `err`, and the line.
    """

    arguments: tuple[str, ...]
    folder: Path
    lines: list[tuple[float, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mark = uuid.uuid4().hex
        kept = {key: value for key, value in os.environ.items() if key not in ("BROKER", "WAYBILL_BROKER_URL")}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.arguments],
            cwd=ROOT,
            env={**kept, MARK: self.mark, "TMPDIR": str(self.folder), "BROKER": "embedded"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        streams = (("out", self.process.stdout), ("err", self.process.stderr))
        self._readers = [Thread(target=self._read, args=stream, daemon=True) for stream in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            self.lines.append((time.monotonic() - self.began, name, line))

    def text(self, name: str) -> str:
        return "".join(line for _, stream, line in self.lines if stream == name)

    def wait_for(self, is_so: Callable[[], bool], seconds: float = PATIENCE) -> float:
        """Wait until something is so; the seconds that it took."""
        began = time.monotonic()
        until(is_so, self.lines, seconds)
        return time.monotonic() - began

    def ended(self) -> int:
        """Its exit code, when all that it printed is here."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def others(self) -> list[int]:
        """The processes that it has started, and their children."""
        return [pid for pid in processes_with(MARK, self.mark) if pid != self.process.pid]

    def heeds_signals(self) -> bool:
        """Whether it has begun to catch SIGTERM: Python by itself does not."""
        with suppress(OSError):
            status = (Path("/proc") / str(self.process.pid) / "status").read_text(encoding="ascii")
            (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
            return bool(int(caught, 16) & 1 << signal.SIGTERM - 1)
        return False

    def kill(self) -> None:
        for pid in [self.process.pid, *self.others()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(autouse=True, scope="module")
def heeded_signals() -> Iterator[None]:
    """Programs heed SIGINT also where the tests run in the background: they would inherit that it is ignored."""
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if is_ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if is_ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start a program; what is left of it after the test is killed."""
    started: list[Program] = []

    def start(*arguments: str) -> Program:
        folder = tmp_path / f"temporary-{len(started)}"
        folder.mkdir()
        started.append(Program(arguments, folder))
        return started[-1]

    yield start
    for program in started:
        program.kill()


def test_the_demo(start: Callable[..., Program]) -> None:
    demo = start("publishers", "demo")
    assert demo.ended() == 0, demo.text("err")
    out = demo.text("out")
    assert [line for line in out.splitlines() if line in dict(EXCHANGE_LESSONS)] == list(dict(EXCHANGE_LESSONS))
    (messages,) = (line for line in out.splitlines() if line.startswith("  messages: "))
    assert (
        messages == f"  messages: {out.count('→')}, as predicted: {out.count('✓')}; 2 messages returned, as predicted"
    )
    assert out.count("→") == out.count("✓")
    assert "17 workers are ready after" in without_progress(demo.text("err"))
    steps = out.partition("next steps\n")[2].splitlines()
    assert [line.split()[0].rpartition("/")[2] for line in steps[::2]] == ["make", "python", "waybill"]
    assert (list(demo.folder.iterdir()), demo.others()) == ([], [])
    times = [0.0, *(when for when, _, _ in demo.lines)]
    longest = max(later - earlier for earlier, later in pairwise(times))
    first = next(when for when, _, line in demo.lines if "→" in line)
    print(f"first line after {times[1]:.2f} s, first receipt after {first:.2f} s, longest silence {longest:.2f} s")
    assert longest < SILENCE


def test_a_program_says_what_it_starts(start: Callable[..., Program]) -> None:
    direct = start("publishers.direct", "video", "--json")
    assert direct.ended() == 0
    assert len(direct.text("out").splitlines()) == 1
    assert without_progress(direct.text("err")) == ""
    times = [0.0, *(when for when, _, _ in direct.lines)]
    print(f"first line after {times[1]:.2f} s: {direct.lines[0][2].strip()}")
    assert max(later - earlier for earlier, later in pairwise(times)) < SILENCE


def test_the_groups_and_the_lessons_are_listed() -> None:
    listed = call("publishers.__main__", "--list").out
    names = [line.split()[0] for line in listed.splitlines()]
    assert names == ["demo", *GROUPS["demo"], "tour", *(name for name in LESSONS if name not in GROUPS["demo"])]
    assert len(GROUPS["demo"]) == 12
    usage = call("publishers.__main__", "--help").out
    assert "[demo|tour|LESSON]..." in usage
    assert "--list" in usage


# What is awaited in what a program prints, the seconds until the signals, the signals, and the program.
SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM
MOMENTS: tuple[tuple[str, float, tuple[signal.Signals, ...], tuple[str, ...]], ...] = (
    ("", 0.0, (SIGINT,), ("publishers", "demo")),
    ("", 0.0, (SIGTERM,), ("publishers", "demo")),
    ("", 0.05, (SIGINT,), ("publishers.topic",)),
    ("starting 12 lessons", 0.0, (SIGINT,), ("publishers", "demo")),
    ("starting 2 lessons", 0.05, (SIGTERM,), ("publishers", "topic", "priority")),
    ("starting 17 workers", 0.0, (SIGINT,), ("publishers", "demo")),
    ("17 workers are ready", 0.0, (SIGINT,), ("publishers", "demo")),
    ("topic ·", 0.0, (SIGINT, SIGINT), ("publishers", "topic", "priority")),
    ("served in this one", 0.0, (SIGINT,), ("publishers", "topic", "priority")),
    ("raw ·", 0.0, (SIGTERM,), ("publishers", "demo")),
    ("default 5/s", 0.5, (SIGINT,), ("publishers.celery.rates",)),
    ("reliability ·", 0.3, (SIGINT,), ("publishers", "reliability")),
    ("is killed", 0.0, (SIGTERM,), ("publishers.celery.reliability",)),
)


@pytest.mark.parametrize(("awaited", "delay", "signals", "arguments"), MOMENTS)
def test_whoever_interrupts_it(
    start: Callable[..., Program],
    awaited: str,
    delay: float,
    signals: tuple[signal.Signals, ...],
    arguments: tuple[str, ...],
) -> None:
    program = start(*arguments)
    program.wait_for(program.heeds_signals)
    program.wait_for(lambda: any(awaited in line for _, _, line in program.lines) if awaited else True)
    time.sleep(delay)
    if "17 workers are ready" in program.text("err"):
        assert len(program.others()) >= 17
    interrupt(program, signals)


@pytest.mark.parametrize(("number", "word"), [(SIGINT, "interrupted"), (SIGTERM, "terminated")])
def test_a_signal_while_celery_is_loaded(number: signal.Signals, word: str) -> None:
    # What Python does first for `python -m publishers...`, and then the signal, before anything else is imported.
    code = f"import os, sys; sys.argv[0] = '-m'; import publishers; os.kill(os.getpid(), {number.value}); print('late')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert without_progress(done.stderr) == f"error: {word}; nothing had been started\n"


@pytest.mark.parametrize("number", range(2))
def test_interrupted_at_random(start: Callable[..., Program], number: int) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(10**6)) + number
    delay = random.Random(seed).uniform(0, 6)
    print(f"SEED={seed - number}, {delay:.3f} s after it began to load")
    program = start("publishers", "demo")
    program.wait_for(program.heeds_signals)
    with suppress(subprocess.TimeoutExpired):
        program.process.wait(delay)
    interrupt(program, (SIGINT,))


def interrupt(program: Program, signals: tuple[signal.Signals, ...]) -> None:
    """Send the signals, and see that the program ends at once, in one line, and that nothing is left of it."""
    began = time.monotonic()
    for one in signals:
        program.process.send_signal(one)
    code = program.ended()
    seconds = time.monotonic() - began
    said = without_progress(program.text("err"))
    if "summary" in program.text("out"):  # it was over before
        assert code in (0, 128 + signals[0])
    else:
        assert code == 128 + signals[0], said
        word = "interrupted" if signals[0] == SIGINT else "terminated"
        errors = [line for line in said.splitlines() if "workers are ready" not in line]
        assert len(errors) == 1, said
        assert errors[0].startswith(f"error: {word}; ")
    gone = program.wait_for(lambda: not program.others(), GONE)
    print(f"ended after {seconds:.2f} s, and no process was left after {gone:.2f} s more")
    assert list(program.folder.iterdir()) == []
    assert seconds < GONE


class Terminal(io.StringIO):
    """Standard error at a terminal."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_one_line_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    status = Status()
    with status.working("starting 2 workers") as update:
        shown(terminal, "starting 2 workers ...")
        update("starting 2 workers: 1 of 2 are ready")
        shown(terminal, "starting 2 workers: 1 of 2 are ready ...")
        with status.paused():
            terminal.write("a result\n")
        shown(terminal, "a result\n\r\x1b[Kstarting 2 workers: 1 of 2 are ready ...")
    assert terminal.getvalue().endswith(" ...\r\x1b[K")
    assert "\n" not in terminal.getvalue().replace("a result\n", "")


def shown(stream: io.StringIO, text: str) -> None:
    until(lambda: text in stream.getvalue(), f"{text!r} is shown")


def test_in_a_pipe_a_silence_is_broken_by_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with Status().working("starting 2 workers"):
        assert pipe.getvalue() == ""
        shown(pipe, "starting 2 workers ...\n")
    assert without_progress(pipe.getvalue()) == ""


def test_whoever_holds_the_line_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal can break off a block that is being entered; the thread that ends the program says so all the same."""
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    status = Status()

    def say() -> None:
        with status.paused():
            pipe.write("ended\n")

    with status.paused():
        thread = Thread(target=say, daemon=True)
        thread.start()
        shown(pipe, "ended\n")
    thread.join(PATIENCE)
    with status.paused():
        assert pipe.getvalue() == "ended\n"


def test_nothing_is_said_of_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    status = Status()
    with status.working("outside"):
        with status.working("inside") as update:
            pass
        update("changed too late")
        shown(pipe, "outside ...\n")
    assert "changed" not in pipe.getvalue()


# The stamps that stand in .venv, the target and the broker -> the extras that are installed, if anything is.
INSTALLATIONS: tuple[tuple[tuple[str, ...], str, str, list[str] | None], ...] = (
    ((), "demo", "embedded", ["showcase"]),
    ((), "tour", "embedded", ["showcase"]),
    ((), "demo", "docker", ["showcase", "docker"]),
    ((), "test", "embedded", ["dev"]),
    (("demo",), "demo", "embedded", None),
    (("demo",), "demo", "docker", ["showcase", "docker"]),
    (("demo",), "test", "embedded", ["dev"]),
    (("installed",), "demo", "embedded", None),
    (("installed",), "demo", "docker", None),
)


@pytest.mark.parametrize(("stamps", "target", "broker", "extras"), INSTALLATIONS)
def test_make_installs_what_is_needed(
    tmp_path: Path, stamps: tuple[str, ...], target: str, broker: str, extras: list[str] | None
) -> None:
    for stamp in stamps:
        (tmp_path / stamp).touch()
    command = ["make", "--dry-run", target, f"VENV={tmp_path}", f"BROKER={broker}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    installs = [line for line in done.stdout.splitlines() if "-m tools.install" in line]
    assert [re.findall(r"--extra (\w+)", line) for line in installs] == ([] if extras is None else [extras])
    is_played = f"/bin/python -m publishers {target}" in done.stdout
    assert is_played == (target != "test")


# What pip says of a package that it has found -> the package's name.
FOUND = (
    ("celery>=5.3 (from waybill==0.1.0)", "celery"),
    ("python-dateutil==2.9.0.post0", "python-dateutil"),
    ("/wheels/rich-15.0.0-py3-none-any.whl (from waybill==0.1.0)", "rich"),
    ("typing_extensions", "typing_extensions"),
    ("zope.interface!=4.0", "zope.interface"),
    ("coverage[toml]>=7", "coverage"),
)


@pytest.mark.parametrize(("found", "name"), FOUND)
def test_the_name_of_a_package(found: str, name: str) -> None:
    assert name_of(found) == name


@pytest.fixture
def environment(tmp_path: Path) -> Callable[[str], Path]:
    """An environment whose Python is a shell script: what it does instead of pip."""

    def environment(script: str) -> Path:
        folder = tmp_path / "environment" / "bin"
        folder.mkdir(parents=True)
        (folder / "pip").touch()
        python = folder / "python"
        python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        python.chmod(0o755)
        return folder.parent

    return environment


def test_an_installation_that_fails_is_shown_whole(
    start: Callable[..., Program], environment: Callable[[str], Path]
) -> None:
    fails = environment("echo Collecting celery; echo 'ERROR: No matching distribution' >&2; exit 3")
    install = start("tools.install", str(fails), "--extra", "showcase")
    assert install.ended() == 3
    said = install.text("err").splitlines()
    assert said[:2] == ["Collecting celery", "ERROR: No matching distribution"]
    assert said[2].startswith("error: ")
    assert said[2].endswith("-e '.[showcase]': exit code 3")


def test_an_installation_that_goes_well_says_little(
    start: Callable[..., Program], environment: Callable[[str], Path]
) -> None:
    install = start("tools.install", str(environment("echo Collecting celery; sleep 1; echo Installed")))
    assert install.ended() == 0
    assert without_progress(install.text("err")) == ""
    assert "collecting packages: 1, celery ..." in install.text("err")
    assert [line.split()[0] for line in install.text("out").splitlines()] == ["installing", "installed"]


def test_a_relative_folder_is_the_one_below_the_current_one(
    tmp_path: Path, environment: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = environment("echo Collecting celery")
    monkeypatch.chdir(tmp_path)
    assert installer.main([folder.name]) == 0


def test_an_interrupted_installation(start: Callable[..., Program], environment: Callable[[str], Path]) -> None:
    install = start("tools.install", str(environment("touch $TMPDIR/file; echo Collecting celery; sleep 60")))
    install.wait_for(lambda: "celery" in install.text("err"))
    interrupt(install, (SIGINT,))
