"""A project in a folder of its own, and its tests in a pytest of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from waybill.testing.brokers import Address

# Seconds after which such a run is held to hang.
TIMEOUT = 180


@dataclass(frozen=True)
class Run:
    """What a run of pytest printed."""

    text: str

    @property
    def counts(self) -> dict[str, int]:
        """`{"passed": 2, "failed": 1}`, as its last line says."""
        last = next((line for line in reversed(self.text.splitlines()) if re.search(r" in [\d.]+s", line)), "")
        return {
            what.rstrip("s"): int(number) for number, what in re.findall(r"(\d+) (passed|failed|errors?|skipped)", last)
        }


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a project's files; their texts may be indented."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return folder


def run_pytest(
    folder: Path, *arguments: str, at: Address | None = None, environment: Mapping[str, str] | None = None
) -> Run:
    """Run the project's tests, on the embedded broker unless another is given."""
    environment = dict(environment or {})
    ours = ("WAYBILL_", "BROKER", "PYTEST_", "DJANGO_")
    ci = ("CI", "BUILD_NUMBER")  # where one is set, pytest's summary repeats each failure in full
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours) and name not in ci}
    if at is not None:
        arguments = ("--waybill-broker", at.url, *arguments)
        environment |= {"WAYBILL_MANAGEMENT_URL": at.management_url} if at.management_url else {}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsEf", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Run(done.stdout + done.stderr)
