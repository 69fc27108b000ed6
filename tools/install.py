"""Install this project into an environment of its own, and show progress: python -m tools.install

    python -m tools.install .venv --extra showcase

It runs with the Python that the environment is made with, so it imports nothing that has to be installed. What pip
says is shown whole when it fails, and in short otherwise: a line that changes at a terminal, some lines elsewhere.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from waybill.cli.ending import Interrupted, ending
from waybill.cli.status import status

ROOT = Path(__file__).resolve().parent.parent

# Seconds in which what was started has to be gone after a signal.
GRACE = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environment where there is none, and install; pip's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.install", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("environment", type=Path, help="folder of the virtual environment")
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml; may be repeated")
    chosen = parser.parse_args(arguments)
    extras = f"[{','.join(chosen.extra)}]" if chosen.extra else ""
    print(f"installing waybill{extras} into {chosen.environment}, which is done once", flush=True)
    began = monotonic()
    with ending.folder("waybill-install-") as temporary:
        environment = chosen.environment.absolute()  # what is run stands in ROOT, wherever we do
        code = make(environment, temporary) or install(environment, extras, temporary)
    if code == 0:
        print(f"installed after {monotonic() - began:.0f} s", flush=True)
    return code


def make(environment: Path, temporary: Path) -> int:
    """Make the environment. Complete an interrupted environment that has no pip."""
    if (environment / "bin" / "pip").exists():
        return 0
    with status.working(f"making {environment}"):
        return run([sys.executable, "-m", "venv", str(environment)], temporary)


def install(environment: Path, extras: str, temporary: Path) -> int:
    """Install what pyproject.toml says, in the versions of constraints.txt."""
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    collected: list[str] = []
    with status.working("preparing to install") as update:

        def show(line: str) -> None:
            word, _, rest = line.strip().partition(" ")
            if word in ("Collecting", "Processing"):
                collected.append(name_of(rest))
                update(f"collecting packages: {len(collected)}, {collected[-1]}")
            elif word == "Building":
                update("building waybill")
            elif line.startswith("Installing collected packages:"):
                update(f"unpacking {line.count(',') + 1} packages")

        options = ("--progress-bar", "off", "-c", "constraints.txt")
        return run([*pip, *options, "-e", f".{extras}"], temporary, show)


def name_of(found: str) -> str:
    """The package that pip has found: `celery>=5.3 (from waybill)`, or a file's path."""
    return re.split(r"[^\w.-]|-\d", found.partition(" ")[0].rpartition("/")[2], maxsplit=1)[0]


def run(command: Sequence[str], temporary: Path, show: Callable[[str], None] = lambda _: None) -> int:
    """Run a command, and show each line that it says in short, or the whole where it fails; its exit code."""
    said = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None

        def kill() -> None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # pip runs others

        with ending.time_limit(GRACE, kill):
            try:
                for line in process.stdout:
                    said.append(line)
                    show(line)
                code = process.wait()
            except BaseException:
                kill()
                raise
    if code:
        with status.paused():
            sys.stderr.writelines(said)
            sys.stderr.write(f"error: {shlex.join(command)}: exit code {code}\n")
    return code


if __name__ == "__main__":
    ending.exit_while_loading()
    try:
        with ending.raise_on_signal():
            code = main()
    except Interrupted as interrupted:
        ending.report(interrupted.number)
        code = interrupted.exit_code
    sys.exit(code)
