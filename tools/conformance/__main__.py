"""`python -m tools.conformance --cases 100000`: the large comparison with a live broker."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence

from tests.support.engine import run_on_engine
from tests.support.live import LiveBroker
from tools.conformance.compare import Comparison
from tools.conformance.older import OLDER
from tools.conformance.row import as_row, written
from waybill.testing import brokers

EVERY = 5000
"""Messages between two lines of progress."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print what was compared, and each disagreement as a row of the table; 1 where there is one."""
    given = _parser().parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    with brokers.broker(given.url) as address, LiveBroker(address.url) as broker:
        print(f"{broker.version}, seed {seed}, {given.cases} messages", flush=True)
        comparison = Comparison(broker, seed, stop_after=given.stop_after)
        if given.older:
            comparison.prepare = OLDER[given.older]
        started = time.monotonic()
        comparison.run(given.cases, _progress(given.cases))
        _report(comparison, time.monotonic() - started)
    return 1 if comparison.disagreements else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__)
    parser.add_argument(
        "--url",
        default=brokers.DOCKER,
        help="`docker`, or a broker's AMQP URL, whose vhost is used up (%(default)s)",
    )
    parser.add_argument("--cases", type=int, default=5000, help="messages to compare (%(default)s)")
    parser.add_argument("--seed", type=int, help="the run to repeat; a random one, printed, if left out")
    parser.add_argument("--stop-after", type=int, default=1, help="disagreements to shrink and print (%(default)s)")
    parser.add_argument("--older", choices=OLDER, help="leave out what this version is known to do otherwise")
    return parser


def _progress(total: int) -> Callable[[int], None]:
    started, shown = time.monotonic(), 0

    def show(done: int) -> None:
        nonlocal shown
        if done // EVERY > shown:
            shown = done // EVERY
            rate = done / (time.monotonic() - started)
            print(f"  {done:>9,} of {total:,}   {rate:,.0f} a second", file=sys.stderr, flush=True)

    return show


def _report(comparison: Comparison, seconds: float) -> None:
    for what, count in comparison.counts.items():
        print(f"  {count:>9,} {what}")
    print(f"  {len(comparison.disagreements):>9,} disagreements, {seconds:.0f} s")
    for case in comparison.disagreements:
        print(f"\n{as_row(case)}\n# where the router says {written(run_on_engine(case))}")


if __name__ == "__main__":
    sys.exit(main())
