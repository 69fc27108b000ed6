"""The plugin's fixtures, for the one fleet that the modules of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery

from tests.support.showcase import Showcase
from waybill.celery_app.fleet.workers import Fleet
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers
from worker.app import app


@pytest.fixture(scope="session")
def waybill_vhost(showcase: Showcase) -> Address:
    return showcase.address


@pytest.fixture(scope="session")
def waybill_fleet(showcase: Showcase) -> Fleet:
    return showcase.fleet


@pytest.fixture(scope="session")
def waybill_workers(showcase: Showcase) -> LocalWorkers:
    return showcase.workers


@pytest.fixture(scope="module")
def waybill_app(showcase: Showcase) -> Iterator[Celery]:
    """The application, at the showcase's vhost while a module of this folder runs: others need it elsewhere."""
    with brokers.use_broker(app, showcase.address.url):
        yield app


@pytest.fixture(scope="module")
def waybill_watch(showcase: Showcase, waybill_app: Celery) -> Watch:
    """The session's watch, beside the application where it watches."""
    assert waybill_app is showcase.watch.app
    return showcase.watch


@pytest.fixture(autouse=True)
def _apart(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test that fails has published is not the next one's."""
    yield
    if "showcase" in request.fixturenames:
        showcase: Showcase = request.getfixturevalue("showcase")
        showcase.clear()
