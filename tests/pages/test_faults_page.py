"""The table in docs/explanation/faults.md is what publishers do."""

from __future__ import annotations

import re

import pytest

from tools import faults_page
from tools.faults_page import PAGE, PUBLISHERS, ROWS, TABLE, Row

CONFIRMING = "Celery, confirms"


def shown(row: Row) -> str:
    """The page's line about a fault."""
    text = PAGE.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {re.escape(row.what)}(?: `.*?`)? \|.*$", text, re.MULTILINE)
    return str(found)


def cells(line: str) -> dict[str, str]:
    """A line's cells, by publisher."""
    return dict(zip(PUBLISHERS, line.strip("| ").split(" | ")[1:], strict=True))


def test_the_page_has_these_rows() -> None:
    (made,) = TABLE.findall(PAGE.read_text(encoding="utf-8"))
    assert made.count("\n") == len(ROWS) + 2
    assert "RabbitMQ" not in made, "the page says that no cell differs"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_row_is_what_publishers_do(row: Row) -> None:
    assert faults_page.line(row) == shown(row)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.faults and row.what.startswith(("the connection ends", "a nack", "the channel"))]
)
def test_rabbitmq_behind_the_proxy_gives_the_same(row: Row, rabbitmq_url: str) -> None:
    assert faults_page.on_rabbitmq(row, PUBLISHERS[CONFIRMING], rabbitmq_url) == cells(shown(row))[CONFIRMING]
