"""docs/architecture.md, made of the order that tests/unit/test_house.py holds: `python -m tools.architecture_page`."""

from __future__ import annotations

import argparse
import ast

from tests.support.programs import ROOT
from tests.unit.test_house import ROOMS

PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "waybill"

HEAD = """\
# Architecture

This page is made of the table in `tests/unit/test_house.py` (`python -m tools.architecture_page`), and a test compares
the two. That test also fails on an import that goes the other way.

## The way of a message

| step | in the showcase | in Waybill |
|---|---|---|
| declare | `exchanges/`: one file an exchange type | `celery_app/` reads it as a `Topology` (`topology/`) |
| publish | `publishers/`: lessons that call Celery | `celery_app/` lets Celery build the message, and records it |
| route | | `routing/` walks to the queues; `matching/` decides which bindings match |
| deliver | `worker/`, and `docker-compose.yml` with the workers | `broker/`, or RabbitMQ |
| receipt | | `testing/`: each worker reports what it received, as a Celery event |
| assert, show | `tests/` | `testing/` compares; `explain`, `check` and `diff` answer before anything is sent |

There is one router. `explain`, `check`, `diff`, the embedded broker, the lessons and the tests ask it, and generated
comparisons with RabbitMQ hold it ([the router](explanation/router.md)).

## Packages

Each package imports only from packages above it.

"""


def page() -> str:
    """The page, as the table and the packages' docstrings have it now."""
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    level{number}["{" · ".join(rooms)}"]' for number, rooms in enumerate(ROOMS)]
    lines += [f"    level{number} --> level{number - 1}" for number in range(1, len(ROOMS))]
    lines += ["```", "", "An arrow means *may import from*, and from all levels above.", ""]
    lines += ["| package | what it is for |", "|---|---|"]
    lines += [f"| `{room}` | {_purpose(room)} |" for rooms in ROOMS for room in rooms]
    return HEAD + "\n".join(lines) + "\n"


def _purpose(room: str) -> str:
    """The first line of the docstring, without the mark of a table's column."""
    path = PACKAGE / room / "__init__.py"
    source = (path if path.exists() else PACKAGE / f"{room}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)) or ""
    return text.split("\n\n", 1)[0].replace("\n", " ").replace("|", "\\|")


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(prog="python -m tools.architecture_page", description=f"write {PAGE.name}").parse_args()
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
