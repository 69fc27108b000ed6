"""The examples in the docstrings of the public names, run as doctests."""

from __future__ import annotations

import doctest
import inspect
import io
from collections.abc import Mapping
from typing import Any

import pytest
from celery import _state

import waybill


def docstring_of(name: str) -> str:
    """Where the example of a public name stands; that of the version in the package's own."""
    return inspect.getdoc(waybill if name == "__version__" else getattr(waybill, name)) or ""


def run_example(name: str, monkeypatch: pytest.MonkeyPatch, given: Mapping[str, Any] | None = None) -> None:
    """Run the example of a public name; what it prints otherwise than it says fails the test.

    Args:
        given: names that the example takes as given.
    """
    # Its application and its tasks are gone with it: Celery gives both to the whole process.
    celerys = {give for give in _state._on_app_finalizers if give.__module__ == "celery.app.builtins"}
    monkeypatch.setattr(_state, "_on_app_finalizers", celerys)
    monkeypatch.setattr(_state._tls, "current_app", _state._tls.current_app)
    example = doctest.DocTestParser().get_doctest(docstring_of(name), dict(given or {}), name, None, None)
    told = io.StringIO()
    outcome = doctest.DocTestRunner().run(example, out=told.write)
    assert outcome.attempted
    assert not outcome.failed, told.getvalue()
