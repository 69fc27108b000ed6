"""`python -m tools.cut_publishing`: lines that break anywhere while tasks are published, and what is said of each task.

Each run publishes a small batch over a line that breaks after some bytes of one side, in the open or silently. Then the
outcomes are compared with what the queue holds: nothing confirmed is missing, nothing is there that is said not to be,
and nothing twice. It prints its seed, and `--seed` repeats a run.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence

from celery import Celery

from tests.support.brokers import fresh
from tests.support.bulk import agree, app_at, drain, small_batch
from tests.support.cut_line import Side, cut_line
from waybill.publishing import Outcome
from waybill.testing import brokers

RUNS = 10_000
LOOK_EVERY = 100
"""Runs after which the queues are looked at: by then the broker has done all it will."""

SILENT = 0.02
"""Share of the runs in which nobody learns that the line is broken; each of them waits for `TIMEOUT`."""

TIMEOUT = 0.3
SIDES: tuple[Side, ...] = ("client", "broker")
WINDOWS = (1, 2, 3, 1000)


def application(url: str) -> Celery:
    """An application that gives a silent line up soon."""
    return app_at(url, broker_connection_timeout=1)


def run(url: str, runs: int, seed: int) -> Counter[str]:
    """Break so many lines; how often each state was said.

    Raises:
        AssertionError: an outcome is wrong.
    """
    chance = random.Random(seed)
    app = application(url)
    with cut_line(url) as line:
        app.conf.broker_url = line.url
        small_batch(app, fresh("cut"))
    lengths = {side: len(line.passed[side]) for side in SIDES}
    found: Counter[str] = Counter()
    seen: list[tuple[str, tuple[Outcome, ...]]] = []
    for number in range(1, runs + 1):
        side, name = chance.choice(SIDES), fresh("cut")
        place, window, is_silent = chance.randrange(lengths[side]), chance.choice(WINDOWS), chance.random() < SILENT
        with cut_line(url, side, place, is_silent) as line:
            app.conf.broker_url = line.url
            batch = small_batch(app, name, window, TIMEOUT if is_silent else 30)
        seen.append((name, batch.outcomes if batch else ()))
        if number % LOOK_EVERY == 0 or number == runs:
            for queue, outcomes in seen:
                agree(outcomes, drain(url, queue))
                found.update(outcome.state for outcome in outcomes)
            seen.clear()
            app = application(url)  # Celery remembers each queue
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and say what was seen."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.cut_publishing", description="break lines while tasks are published, compare the outcomes"
    )
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    sys.stdout.write(f"{options.runs} runs, seed {seed}\n")
    with brokers.broker(brokers.choice()) as address:
        found = run(address.url, options.runs, seed)
    sys.stdout.write(", ".join(f"{count} {state}" for state, count in found.most_common()) + ": none wrong\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
