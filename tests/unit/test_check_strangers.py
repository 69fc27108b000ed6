"""What check says in situations from public reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.programs import call
from tests.support.strangers import SITUATIONS, Situation, write


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_what_check_says(situation: Situation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write(situation, tmp_path, monkeypatch)
    fleet = ("--fleet", "Procfile") if situation.fleet else ()
    shown = call("waybill.cli", "-A", name, "check", *fleet, *situation.arguments)
    assert shown.err == ""
    answer = json.loads(call("waybill.cli", "-A", name, "check", "--json", *fleet, *situation.arguments).out)
    assert tuple(f"{one['code']} {one['severity']}" for one in answer["findings"]) == situation.found, shown.out
    for text in situation.says:
        assert text.format(name=name) in shown.out
