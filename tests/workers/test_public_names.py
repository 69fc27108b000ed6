"""The example of the public name that needs a worker: in a process of its own, since a worker sets up its logging."""

from __future__ import annotations

import subprocess
import sys

from tests.support.programs import ROOT, TIMEOUT

CODE = "import doctest, waybill; print(doctest.run_docstring_examples(waybill.Watch, {}, name='Watch'))"


def test_the_example_of_watch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
