"""The tour on a broker without workers: it starts the fleet, and leaves no process behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import ROOT, module
from waybill.provision import Address


def workers_at(url: str) -> list[int]:
    """The processes that run a worker of this broker's vhost."""
    return [pid for pid, environment in _environments() if f"WAYBILL_BROKER_URL={url}".encode() in environment]


def _environments() -> Iterator[tuple[int, list[bytes]]]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"celery" in (process / "cmdline").read_bytes():
                yield int(process.name), (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue


def test_the_tour_starts_and_stops_the_fleet(waybill_vhost: Address) -> None:
    result = module("publishers", environment={"BROKER": waybill_vhost.url})
    assert result.code == 0, result.err
    assert "14 workers are ready" in result.err
    assert workers_at(waybill_vhost.url) == []
    assert "images1 images2 mail orders ticker usa videos world" in result.out


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_stops_every_worker(waybill_vhost: Address, signals: int) -> None:
    tour = subprocess.Popen(
        [sys.executable, "-m", "publishers", "--broker", waybill_vhost.url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert tour.stderr is not None
    try:
        for line in tour.stderr:
            if "workers are ready" in line:
                break
        assert len(workers_at(waybill_vhost.url)) >= 14
        for _ in range(signals):
            tour.send_signal(signal.SIGINT)
        _, err = tour.communicate(timeout=60)
    finally:
        os.killpg(tour.pid, signal.SIGKILL) if tour.poll() is None else None
    assert tour.returncode == 130
    assert "Traceback" not in err
    assert workers_at(waybill_vhost.url) == []


def test_a_worker_that_cannot_start_ends_the_tour(waybill_vhost: Address) -> None:
    result = module("publishers", environment={"BROKER": waybill_vhost.url, "WAYBILL_RESULT_BACKEND": "nosuch://"})
    assert result.code == 2
    assert "ended with exit code" in result.err
    assert "Traceback" not in result.err.splitlines()[0]
    assert workers_at(waybill_vhost.url) == []
