"""The matrix: the unit tests and the plugin's worker tests on each Python and each line of Celery and Kombu.

    make matrix                       every session; a Python that isn't installed is skipped with a line
    python -m nox -l                  their names; -s NAME runs one of them
    python -m nox -s table            README's table, of what the sessions have noted in build/matrix/

A session installs, or upgrades to, the newest versions of its line (`celery~=5.5.0`, `kombu~=5.5.0`), or, as `lowest`,
exactly the floors that pyproject.toml names: on the oldest Python alone, for later ones have no wheels of versions as
old.
"""

from __future__ import annotations

import os

import nox

from tools.matrix import EXTRAS, LINES, LOWEST, PYTHONS, SUITES, Note, floors, write_table

nox.options.sessions = ["matrix", "table"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False

# It would win over BROKER, and the table says that all runs on the embedded broker.
os.environ.pop("WAYBILL_BROKER_URL", None)

# Warnings are errors in `make test`; an older Celery on a newer Python warns of itself, which isn't looked at here.
WARNINGS = ["-W", "default"]
# Whatever pytest's exit code is, also that of a signal, which is negative: its report tells whether the tests passed.
ANY_CODE = range(-64, 256)


@nox.session
@nox.parametrize(
    ("python", "line"),
    [(python, line) for python in PYTHONS for line in (*LINES, LOWEST) if line != LOWEST or python == PYTHONS[0]],
)
def matrix(session: nox.Session, line: str) -> None:
    """The tests on this Python with this line of Celery and Kombu."""
    wanted = floors() if line == LOWEST else [f"celery~={line}.0", f"kombu~={line}.0"]
    session.install("--upgrade", *wanted, "-e", f".[{EXTRAS}]")
    note = Note(str(session.python), line)
    note.clear()
    session.run("python", "-m", "tools.matrix", "note", note.python, line)  # first: a session may be broken off
    failed = []
    for suite, chosen in SUITES.items():
        report = note.report(suite)
        session.run(
            "python", "-m", "pytest", "--quiet", *WARNINGS, f"--junitxml={report}", *chosen, *session.posargs,
            env={"BROKER": "embedded"}, success_codes=ANY_CODE,
        )  # fmt: skip
        if not note.passed(suite):
            failed.append(suite)
    if failed:
        session.error(f"failed: {' and '.join(failed)}")


@nox.session(venv_backend="none")
def table(session: nox.Session) -> None:
    """Print what ran, and write it into README.md."""
    session.log("what has run so far:\n%s", write_table())
