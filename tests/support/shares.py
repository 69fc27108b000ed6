"""How much of what is generated runs with the tests, and from which seeds; `make nightly` runs the large numbers.

The same share runs every time, so that a failure is one of the change and not of chance. The report's header names it.
"""

from __future__ import annotations

GENERATED, GENERATED_SEED = 2_000, 20_261_122
"""Messages of made-up topologies, routed by the router and by each broker."""

SCRIPTS, SCRIPTS_SEED = 30, 20_000
"""Scripts of AMQP methods, played to both brokers, and the seed of the first."""

FRAMES, FRAMES_SEEDS = 60_000, (1, 2)
"""Frames for each of the seeds, broken and whole."""

SHARE = (
    f"{GENERATED:,} generated messages (seed {GENERATED_SEED}), {SCRIPTS} scripts (seeds from {SCRIPTS_SEED}), "
    f"{FRAMES:,} frames (seeds {FRAMES_SEEDS[0]}, {FRAMES_SEEDS[1]}); Hypothesis without chance"
)
