"""`python -m tools.benchmarks.imports`: what Waybill adds to every `celery` command, and what its own imports cost.

Celery loads the entry points of `celery.commands` when `celery.bin.celery` is imported, in every one of its commands.
Here it is imported with Waybill's entry point and without it, in turn, each time in an interpreter of its own; the
times are medians, in milliseconds of the processor, which is shared with others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from statistics import median

from rich.console import Console
from rich.table import Table

RUNS = 41
ALLOWED = 1.05
"""How many times as long the import of `celery.bin.celery` may take with the entry point."""
FACE = 50.0
"""Milliseconds that `import waybill` may take."""

# In the measured interpreter: the statement's time alone, not that of the interpreter's start.
TIMED = """
import importlib.metadata, time
found = importlib.metadata.entry_points
{before}
started = time.process_time()
{statement}
print(time.process_time() - started)
"""
WITHOUT = """
importlib.metadata.entry_points = lambda **asked: [one for one in found(**asked) if one.name != "waybill"]
"""
# The same work beside it, so that only the loading of the entry point differs.
WITH = """
importlib.metadata.entry_points = lambda **asked: [one for one in found(**asked) if one.name != "no such"]
"""
CELERY = "import celery.bin.celery"
HELP = """
import contextlib
from waybill.cli import waybill
with contextlib.suppress(SystemExit):
    waybill(["--help"])
"""
COMMANDS = """
from waybill.cli.group import COMMANDS, waybill
for name in COMMANDS:
    waybill.get_command(None, name)
"""


def timed(statement: str, before: str = "") -> str:
    """A program that runs the statement, and prints how long it took as its last line."""
    return TIMED.format(before=before, statement=statement)


@dataclass(frozen=True)
class Row:
    """One line of the table: two programs that were measured in turn, or one.

    Attributes:
        program: the program with what is measured.
        beside: the one without; None where there is none.
        limit: a ratio where there are two, milliseconds where there is one; None for no goal.
    """

    subject: str
    program: str
    beside: str | None = None
    limit: float | None = None


ROWS = (
    Row(CELERY, timed(CELERY, WITH), timed(CELERY, WITHOUT), ALLOWED),
    Row("the entry point, after that", timed("from waybill.cli import celery_command", WITHOUT + CELERY)),
    Row("import waybill", timed("import waybill"), limit=FACE),
    Row("waybill --help", timed(HELP)),
    Row("all commands of waybill", timed(COMMANDS)),
)


def milliseconds(program: str) -> float:
    """What one run of the program says."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1]) * 1000


def measure(row: Row, runs: int) -> tuple[float, float | None, float | None]:
    """The medians of the row's programs and of their ratio, which is taken of runs next to each other."""
    milliseconds(row.program)  # the first run fills the caches of the file system
    if row.beside is None:
        return median(milliseconds(row.program) for _ in range(runs)), None, None
    pairs = [_pair(row.program, row.beside, is_swapped=bool(number % 2)) for number in range(runs)]
    ours, beside = (median(each) for each in zip(*pairs, strict=True))
    return ours, beside, median(one / other for one, other in pairs)


def _pair(program: str, beside: str, *, is_swapped: bool) -> tuple[float, float]:
    """One run of each, the other one first in every second pair."""
    if is_swapped:
        second = milliseconds(beside)
        return milliseconds(program), second
    return milliseconds(program), milliseconds(beside)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.imports", description="what imports cost")
    parser.add_argument("--runs", type=int, default=RUNS, help="interpreters for each number (default: %(default)s)")
    runs = parser.parse_args(arguments).runs
    if not entry_points(group="celery.commands", name="waybill"):
        print("error: waybill is not installed here, so Celery loads nothing of it", file=sys.stderr)
        return 2
    table = Table("what", "with waybill", "without", "ratio", "goal", "reached")
    is_reached = True
    for row in ROWS:
        ours, beside, ratio = measure(row, runs)
        kept = row.limit is None or (ratio or ours) <= row.limit
        is_reached &= kept
        goal = "" if row.limit is None else f"at most {row.limit:g}{'x' if ratio else ' ms'}"
        table.add_row(
            row.subject,
            f"{ours:.1f} ms",
            f"{beside:.1f} ms" if beside else "",
            f"{ratio:.3f}x" if ratio else "",
            goal,
            "" if row.limit is None else "yes" if kept else "NO",
        )
    print(f"medians of {runs} runs, milliseconds of the processor")
    Console().print(table)
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
