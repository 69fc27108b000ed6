"""docs/reference/diff.md shows what its two applications give."""

from __future__ import annotations

from pathlib import Path

from tests.support.diff_support import site
from tools.diff_page import PAGE, SHOWN, printed
from waybill.testing.brokers import Address


def test_the_page_shows_what_is_printed(rabbitmq: Address, tmp_path: Path) -> None:
    with site(rabbitmq) as at:
        (shown,) = SHOWN.findall(PAGE.read_text(encoding="utf-8"))
        assert printed(at, tmp_path) == shown
