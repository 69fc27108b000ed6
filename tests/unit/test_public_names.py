"""The public names: which they are, what importing them costs, and that docs/reference/api.md describes them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import waybill
from tests.support.programs import ROOT
from tests.support.public_names import docstring_of, run_example
from tools import reference_page

PUBLIC = {
    "Broker",
    "BulkPublishError",
    "Faults",
    "Message",
    "Outcome",
    "Router",
    "Topology",
    "Watch",
    "WaybillError",
    "__version__",
    "bulk_publish",
    "check_app",
    "compare",
    "enable_receipts",
    "explain_task",
    "use_broker",
}
# Their examples run in tests/broker and tests/workers.
WITH_A_BROKER = {"Broker", "Faults", "Watch", "bulk_publish", "compare", "use_broker"}


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_list() -> None:
    assert set(waybill.__all__) == PUBLIC
    assert dir(waybill) == sorted(PUBLIC)
    names: dict[str, object] = {}
    exec("from waybill import *", names)
    assert names.keys() >= PUBLIC
    for name in PUBLIC - {"__version__"}:
        assert getattr(waybill, name).__name__ == name  # one name for one thing


def test_what_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"^module 'waybill' has no attribute 'explian_task'$"):
        waybill.explian_task  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="explian_task"):
        from waybill import explian_task  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize("name", sorted(PUBLIC - WITH_A_BROKER))
def test_an_example_does_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example(name, monkeypatch)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_has_an_example(name: str) -> None:
    assert ">>> " in docstring_of(name)


def test_the_reference_is_what_the_docstrings_say() -> None:
    page = reference_page.PAGE.read_text(encoding="utf-8")
    assert page == reference_page.page(), "run python -m tools.reference_page"
    for name in PUBLIC - {"__version__"}:
        assert f"\n## {name}\n" in page


def test_importing_the_package_costs_next_to_nothing() -> None:
    """The quickest of three: other programs may have the processor meanwhile."""
    code = "import time; began = time.perf_counter(); import waybill; print(time.perf_counter() - began)"
    assert min(float(run(code)) for _ in range(3)) < 0.05
    assert json.loads(run(f"import waybill{LOADED}"))["ours"] == ["waybill"]


# The packages outside the standard library that are loaded, and which of ours.
LOADED = """
import json, sys
tops = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps({
    "others": sorted(tops - {"__main__"}),
    "ours": sorted(name for name in sys.modules if name.partition(".")[0] == "waybill"),
}))
"""


def test_receipts_load_nothing_beyond_celery_and_kombu() -> None:
    celerys = json.loads(run(f"import celery.bootsteps, celery.worker.consumer, celery.events, kombu{LOADED}"))
    receipts = json.loads(
        run(f"from celery import Celery; from waybill import enable_receipts; enable_receipts(Celery()){LOADED}")
    )
    own = {"waybill.testing", "waybill.testing.receipts"}
    names = {
        "waybill.celery_app",
        "waybill.celery_app.names",
        "waybill.celery_app.private",
    }  # of what it uses of Celery
    assert set(receipts["ours"]) == {"waybill", *own, *names}
    assert set(receipts["others"]) - set(celerys["others"]) == {"waybill"}
    assert not {"httpx", "rich", "pamqp", "starlette", "uvicorn"} & set(receipts["others"])
