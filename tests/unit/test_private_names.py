"""The private names of Celery that Waybill uses: they stand in one module, and do what it says of them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.backends.base import DisabledBackend
from kombu import Connection, Queue

from tests.support.programs import ROOT
from waybill.celery_app import private

HOME = Path("waybill/celery_app/private.py")
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("waybill", "worker", "exchanges", "publishers")
    for path in (ROOT / folder).rglob("*.py")
)


# Documented, in spite of the underscore in front.
PUBLIC = {"_exit", "_replace"}


def others_private_names(path: Path) -> set[str]:
    """The names with one underscore in front that a file uses and neither defines nor has of `self`."""
    used, own = set(), set(PUBLIC)
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            used |= {name.name for name in node.names}
        elif isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (own if is_own else used).add(node.attr)
    return {name for name in used - own if name.startswith("_") and not name.startswith("__")}


def test_private_names_stand_in_one_module() -> None:
    named = {"_TO_NEW_KEY", "_local", "_pool", "_producer_pool", "_backend_cache"}
    assert others_private_names(HOME) == named | {"_get_exec_options", "_active_tags", "_callbacks"}
    elsewhere = {str(path): names for path in FILES if path != HOME and (names := others_private_names(path))}
    assert elsewhere == {}


@pytest.fixture
def app() -> Celery:
    return Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)


def test_old_names_of_settings() -> None:
    assert private.OLD_SETTINGS["CELERY_RESULT_BACKEND"] == "result_backend"
    assert private.OLD_SETTINGS["BROKER_URL"] == "broker_url"


def test_connections_and_producers_are_made_anew(app: Celery) -> None:
    assert private.made_producers(app) is None
    connections, producers = app.pool, app.amqp.producer_pool
    assert private.made_producers(app) is producers
    assert (app.pool, app.amqp.producer_pool) == (connections, producers)
    app.conf.broker_url = "memory://elsewhere"
    private.drop_pools(app)
    assert private.made_producers(app) is None
    assert app.pool is not connections
    assert app.amqp.producer_pool is not producers


def test_another_pool_for_a_while(app: Celery) -> None:
    pool, producer = object(), object()
    with private.producers_replaced(app, pool, producer):
        assert app.amqp.producer_pool is app.producer_pool is pool
        assert app.amqp.Producer is producer
    assert private.made_producers(app) is None
    assert "Producer" not in vars(app.amqp)


@pytest.mark.parametrize("is_made", [False, True])
def test_another_result_backend_for_a_while(app: Celery, is_made: bool) -> None:
    before = app.backend if is_made else None
    other = DisabledBackend(app)
    with private.result_backend_replaced(app, other):
        assert app.backend is other
    assert app.backend is not other
    assert before is None or app.backend is before


def test_the_result_backend_is_made_anew(app: Celery) -> None:
    before = app.backend
    assert app.backend is before
    private.drop_result_backend(app)
    assert app.backend is not before


def test_the_options_of_a_decorator(app: Celery) -> None:
    @app.task(queue="slow", priority=3)
    def encode() -> None: ...

    given = private.decorator_options(encode)
    assert {name: given[name] for name in ("queue", "priority", "routing_key")} == {
        "queue": "slow",
        "priority": 3,
        "routing_key": None,
    }


def test_a_tag_and_a_callback_for_each_queue() -> None:
    wrapped = []

    def wrap(callbacks: dict[str, Any]) -> dict[str, Any]:
        wrapped.append(callbacks)
        return dict(callbacks)

    with (
        Connection("memory://") as connection,
        connection.Consumer([Queue("a"), Queue("b")], callbacks=[print]) as both,
    ):
        tags = private.tags_of(both)
        assert sorted(tags) == ["a", "b"]
        assert len(set(tags.values())) == 2
        private.wrap_callbacks(connection.transport, wrap)
        assert sorted(wrapped[0]) == ["a", "b"]


def test_what_is_replaced_comes_back_after_an_error() -> None:
    attributes = {"kept": 1}
    with pytest.raises(ZeroDivisionError), private.replaced(attributes, {"kept": 2, "new": 1 // attributes["kept"]}):
        assert 1 // (attributes["kept"] - 2) == attributes["new"]
    assert attributes == {"kept": 1}
