"""The case table, asked of Waybill's router. tests/broker asks the brokers."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.cases.case import Case
from tests.support.cases.table import CASES
from tests.support.engine import run_on_engine


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.claim)
def test_the_row_holds(case: Case) -> None:
    assert run_on_engine(case) == case.expect, f"{case.claim} ({case.source})"


def test_every_row_is_its_own_and_names_its_source() -> None:
    claims = Counter(case.claim for case in CASES)
    assert [claim for claim, count in claims.items() if count > 1] == []
    assert [case.claim for case in CASES if not case.source] == []
