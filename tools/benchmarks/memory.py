"""How much memory a table of bindings takes, measured in a process of its own."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

QUEUES = 1_000


def bindings_in_megabytes(count: int) -> float:
    """The resident memory that a router with `count` topic bindings adds to a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.benchmarks.memory", str(count)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _measure(count: int) -> float:
    from tools.benchmarks.workload import MAX_HASH_WORDS, pattern_word
    from waybill.routing import Router
    from waybill.topology import Binding, Exchange, Queue

    router, rng = Router(), random.Random(5)
    before = _resident()
    router.declare_exchange(Exchange("bench", "topic"))
    names = [f"queue{number}" for number in range(QUEUES)]
    for name in names:
        router.declare_queue(Queue(name))
    made = 0
    while made < count:
        words = [pattern_word(rng) for _ in range(rng.randint(2, 5))]
        if words.count("#") <= MAX_HASH_WORDS:
            made += router.bind(Binding("bench", names[made % QUEUES], ".".join(words)))
    return _resident() - before


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.memory", description="Megabytes of a table.")
    parser.add_argument("count", type=int, help="bindings")
    print(f"{_measure(parser.parse_args().count):.0f}")
