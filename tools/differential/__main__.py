"""The embedded broker beside RabbitMQ: scripts of method calls, outcomes compared call by call.

    python -m tools.differential --scripts 2000 --seed 1

RabbitMQ is a container, or the one at `--url`, with the plugins of `brokers.PLUGINS`.
"""

from __future__ import annotations

import argparse
import random
import time

from tools.differential.play import run
from waybill.testing import brokers


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.differential", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scripts", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, help="the run to repeat; a random one, printed, if left out")
    parser.add_argument("--no-shrink", action="store_true", help="print a disagreement as it was found")
    parser.add_argument("--at-most", type=int, default=10, help="disagreements before it stops")
    parser.add_argument("--url", default=brokers.DOCKER, help="RabbitMQ: `docker` or an AMQP URL (%(default)s)")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    print(f"scripts of seeds {options.seed} to {options.seed + options.scripts - 1}", flush=True)
    with brokers.broker(options.url) as address:
        return _play(address.url, options)


def _play(live: str, options: argparse.Namespace) -> int:
    """Play the scripts, print each disagreement, and say how many there were; 1 where there is one."""
    started, played, texts = time.monotonic(), 0, list[str]()
    for seed in range(options.seed, options.seed + options.scripts, 10):
        seeds = range(seed, min(seed + 10, options.seed + options.scripts))
        count, found = run(live, seeds, shrinks=not options.no_shrink)
        played += count
        texts += found
        if len(texts) >= options.at_most:
            break
    print(f"{played} scripts, {len(texts)} disagreements, {time.monotonic() - started:.0f} s")
    return 1 if texts else 0


if __name__ == "__main__":
    raise SystemExit(main())
