"""Whoever started workers is killed, and can stop nothing any more: its workers end all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from time import monotonic

import pytest

from tests.support.programs import MARK, ROOT, processes_with, until

# A test that never ends, with two of the showcase's workers.
HANGING = """
import time
import pytest

pytestmark = pytest.mark.waybill_workers("usa", "world")


def test_it(waybill_watch):
    time.sleep(600)
"""
PYTEST = ("pytest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT))

# the program -> how many processes it has when its workers run: the zygote, the workers, a process in the pool of each
STARTERS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("the tour", ("publishers", "tour"), 1 + 17 + 18),
    ("a publisher", ("publishers.celery.queues",), 1 + 5 + 6),
    ("pytest", PYTEST, 1 + 2 + 2),
)


@pytest.mark.parametrize(("arguments", "count"), [row[1:] for row in STARTERS], ids=[row[0] for row in STARTERS])
def test_nothing_is_left_of_a_starter_that_is_killed(tmp_path: Path, arguments: tuple[str, ...], count: int) -> None:
    if arguments is PYTEST:
        (tmp_path / "test_hanging.py").write_text(HANGING)
        arguments = (*PYTEST, str(tmp_path))
    mark = uuid.uuid4().hex
    environment = {**os.environ, "BROKER": "embedded", MARK: mark, "TMPDIR": str(tmp_path)}
    environment.pop("WAYBILL_BROKER_URL", None)
    starter = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: len(list(processes_with(MARK, mark))) > count or starter.poll() is not None)
        assert starter.poll() is None
        starter.kill()
        starter.wait()
        began = monotonic()
        until(lambda: not list(processes_with(MARK, mark)))
        print(f"no process was left after {monotonic() - began:.2f} s")
    finally:
        starter.kill()
        starter.wait()
