"""docs/explanation/choosing.md, read for what it says of each broker."""

from __future__ import annotations

import re

from tests.support.programs import ROOT

CHOOSING = (ROOT / "docs" / "explanation" / "choosing.md").read_text(encoding="utf-8")


def documented(table: str = "elsewhere") -> dict[str, dict[str, str]]:
    """Broker -> what was tried -> what came of it, as the document has it."""
    found = re.search(f"<!-- {table} -->\n(.*)<!-- end of {table} -->", CHOOSING, re.DOTALL)
    assert found is not None
    header, _, *rows = [line.strip("| ").split(" | ") for line in found[1].splitlines()]
    return {broker: {row[0]: row[column] for row in rows} for column, broker in enumerate(header) if column}
