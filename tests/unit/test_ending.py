"""What a program does on a signal: each test runs a small program that sends itself one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.programs import ROOT

# What each program begins with.
BEGIN = """
import os, sys, threading, time
from signal import SIGHUP, SIGINT, SIGTERM
from waybill.cli.ending import Interrupted, ending

def send(number=SIGINT):
    os.kill(os.getpid(), number)

def say(text):
    print(text, flush=True)
"""


# How the signals stand when the program starts: a test run in the background would hand down that some are ignored.
HEED = "import signal\nfor number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n    signal.signal(number, {})\n"
HEEDED, IGNORED = HEED.format("signal.SIG_DFL"), HEED.format("signal.SIG_IGN")


def run(program: str, before: str = HEEDED) -> tuple[int, str, str]:
    """The program's exit code and what it prints; `before` runs before `waybill.cli.ending` is imported."""
    done = subprocess.run(
        [sys.executable, "-c", before + BEGIN + program],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_ignored_signal_stays_ignored() -> None:
    program = """
ending.exit_while_loading()
send(SIGHUP)
with ending.raise_on_signal():
    send(SIGINT)
    say("here")
send(SIGTERM)
say("there")
"""
    assert run(program, IGNORED) == (0, "here\nthere\n", "")
    assert run(program) == (129, "", "error: terminal closed; nothing had been started\n")


def test_a_block_that_is_not_left_in_time_ends_the_program() -> None:
    code, out, err = run("""
with ending.raise_on_signal(), ending.time_limit(0.05, lambda: say("outer")):
    with ending.time_limit(0.0, lambda: say("inner")):
        try:
            send()
        finally:
            say("stuck")
            threading.Event().wait(50)
""")
    assert (code, out) == (130, "stuck\ninner\nouter\n")
    assert err == "error: interrupted; everything that was started is stopped\n"


@pytest.mark.parametrize("limits", [(0.0, 30.0), (30.0, 0.0)])
def test_the_longest_limit_counts(limits: tuple[float, float]) -> None:
    code, out, _ = run(f"""
outer, inner = {limits}
try:
    with ending.raise_on_signal(), ending.time_limit(outer), ending.time_limit(inner):
        try:
            send()
        finally:
            threading.Event().wait(0.3)
            say("cleaned up")
except Interrupted as interrupted:
    sys.exit(interrupted.exit_code)
""")
    assert (code, out) == (130, "cleaned up\n")


@pytest.mark.parametrize("seconds", [0.1, 60.0])
def test_after_the_block_no_limit_ends_the_program(seconds: float) -> None:
    code, out, err = run(f"""
with ending.time_limit({seconds}):
    try:
        with ending.raise_on_signal():
            (watchdog,) = [one for one in threading.enumerate() if one.name == "watchdog"]
            send()
    except Interrupted:
        watchdog.join(20)
        say(watchdog.is_alive())
    threading.Event().wait(0.3)
    with ending.deferred():
        say("here")
""")
    assert (code, out, err) == (0, "False\nhere\n", "")


def test_a_deferred_signal_is_raised_also_when_the_block_fails() -> None:
    code, out, _ = run("""
try:
    with ending.raise_on_signal(), ending.deferred():
        send(SIGTERM)
        say("deferred")
        raise ValueError("of the block's own")
except Interrupted as interrupted:
    sys.exit(interrupted.exit_code)
""")
    assert (code, out) == (143, "deferred\n")


def test_a_handler_takes_no_lock_that_the_program_holds() -> None:
    """The signal comes while the program starts a thread, and while it begins to show progress."""
    code, out, _ = run("""
from waybill.cli.status import status
status.begin("starting")
try:
    with ending.raise_on_signal(), ending.time_limit(30.0), threading._active_limbo_lock, status._has_work._cond:
        send()
except Interrupted as interrupted:
    say("left")
    sys.exit(interrupted.exit_code)
""")
    assert (code, out) == (130, "left\n")


def test_an_error_at_the_end_of_what_was_interrupted_is_the_interruption() -> None:
    code, out, err = run("""
from waybill.cli.running import run_to_exit

def work():
    try:
        send(SIGTERM)
        time.sleep(60)
    finally:
        raise AssertionError("a library that was interrupted between two states")

ending.exit_while_loading()
run_to_exit(work)
""")
    assert (code, out, err) == (143, "", "error: terminated; everything that was started is stopped\n")
