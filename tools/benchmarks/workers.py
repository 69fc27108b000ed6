"""`python -m tools.benchmarks.workers`: how fast a fleet is ready, and what it takes, forked and as programs, in turn.

Timed from the start of the first worker until the last has answered the roll call, the zygote's own start included;
memory is the proportional set size (pages that processes share count in parts), of the zygote too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from publishers.support.opening import COMPOSE, ROOT
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.testing import brokers
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers, Zygote
from worker.app import app

ROUNDS = 3
FOUR = ("default", "videos", "usa", "world")

AS_PROGRAMS = {"PYTHON_STARTED": "as a program"}
"""The zygote's interpreter was started without it, so nothing is forked."""


@dataclass(frozen=True)
class Start:
    """One fleet, once: `ready` and `stopped` in seconds, `memory` in MB."""

    ready: float
    memory: float
    stopped: float


def start(fleet: Fleet, url: str, variables: Mapping[str, str]) -> Start:
    """Start a fleet on the broker, and stop it again."""
    environment = {**brokers.environment(url), "WAYBILL_RESULT_BACKEND": "rpc://", **variables}
    began = time.perf_counter()
    with Zygote() as zygote, ExitStack() as stack:
        workers = stack.enter_context(LocalWorkers(fleet, environment, ROOT, zygote))
        with Watch(app) as watch:
            watch.discover_workers([worker.name for worker in fleet], workers.check_alive)
        ready = time.perf_counter() - began
        memory = sum(map(proportional_size, family(zygote.pid))) / 1024
        began = time.perf_counter()
        stack.close()
        return Start(ready, memory, time.perf_counter() - began)


def family(pid: int) -> Iterable[int]:
    """A process and what it has started, directly or not."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from family(int(child))


def proportional_size(pid: int) -> int:
    """In kB; see proc_pid_smaps(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="turns of the two ways to start (default: %(default)s)"
    )
    rounds = parser.parse_args().rounds
    table = Table("fleet", "started", "ready, s", "memory, MB", "stopped, s", title=f"the median of {rounds} rounds")
    with brokers.broker(brokers.choice()) as address, brokers.use_broker(app, address.url):
        for fleet in (read_fleet(COMPOSE), read_fleet(COMPOSE).named(FOUR)):
            ways: dict[str, list[Start]] = {"as programs": [], "forked": []}
            for _ in range(rounds):
                ways["as programs"].append(start(fleet, address.url, AS_PROGRAMS))
                ways["forked"].append(start(fleet, address.url, {}))
            for way, starts in ways.items():
                figures = [[getattr(one, name) for one in starts] for name in ("ready", "memory", "stopped")]
                ready, memory, stopped = map(statistics.median, figures)
                table.add_row(f"{len(fleet.workers)} workers", way, f"{ready:.2f}", f"{memory:,.0f}", f"{stopped:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
