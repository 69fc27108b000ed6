"""Fixtures: a broker, a fresh vhost for each module, the workers that it names, and who received what.

    # pyproject.toml
    [tool.pytest.ini_options]
    waybill_app = "proj.app:app"
    waybill_fleet = "docker-compose.yml"

    # test_routing.py
    pytestmark = pytest.mark.waybill_workers("videos", "images1")

    def test_videos(waybill_watch):
        waybill_watch.publish("proj.tasks.encode", ("a.mov",), exchange="media", routing_key="media.video")
        (delivery,) = waybill_watch.settle()
        assert delivery.by_worker == {"videos": "videos"}

Which broker: `--waybill-broker`, else `WAYBILL_BROKER_URL`, else `BROKER`, else the embedded one. Where a container is
asked for and there is no Docker, the tests that need it are skipped, with the reason; with `WAYBILL_REQUIRE_DOCKER=1`
they fail.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from amqp.exceptions import AccessRefused, NotAllowed
from celery import Celery
from celery.app.utils import find_app
from kombu import Connection

from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet
from waybill.errors import BrokerUnavailable
from waybill.rabbitmq.management import Management
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers, Zygote, loaded_by


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--waybill-broker", help="`embedded`, `docker` or the URL of a broker (default: as the environment says)"
    )
    parser.addini("waybill_app", "the Celery application, as `celery -A` takes it")
    parser.addini(
        "waybill_fleet", "the docker-compose.yml or Procfile that describes the workers", default="docker-compose.yml"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "waybill_workers(*names): the workers that this module's tests need; without it the whole fleet"
    )


@contextmanager
def a_broker(which: str) -> Iterator[Address]:
    """A broker for the tests within; they are skipped, or fail, where Docker is needed and missing."""
    with ExitStack() as stack:
        try:
            address = stack.enter_context(brokers.broker(which))
        except BrokerUnavailable as error:
            if os.environ.get("WAYBILL_REQUIRE_DOCKER") == "1":
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield address


@pytest.fixture(scope="session")
def waybill_broker(pytestconfig: pytest.Config) -> Iterator[Address]:
    """A broker for the session."""
    with a_broker(pytestconfig.getoption("--waybill-broker") or brokers.choice()) as address:
        yield address


@contextmanager
def a_vhost(broker: Address) -> Iterator[Address]:
    """A vhost for the length of the block; on Redis, which has none, the database that is named."""
    if not broker.has_vhosts:
        yield broker
        return
    address = broker.with_vhost(f"waybill-{uuid.uuid4().hex[:12]}")
    if address.management_url is None or _is_made_on_connect(address):
        yield address
        return
    with Management(address.management_url, address.vhost) as management:
        management.create_vhost()
        try:
            yield address
        finally:
            management.delete_vhost()


def _is_made_on_connect(address: Address) -> bool:
    """Whether this is the embedded broker, which makes a vhost when somebody connects to it; RabbitMQ answers 530."""
    try:
        with Connection(address.url) as connection:
            connection.connect()
    except (NotAllowed, AccessRefused):
        return False
    return True


@pytest.fixture(scope="module")
def waybill_vhost(waybill_broker: Address) -> Iterator[Address]:
    """A vhost that only this module uses, deleted after it; on Redis, which has none, the database that is named."""
    with a_vhost(waybill_broker) as address:
        yield address


@pytest.fixture(scope="module")
def waybill_management(waybill_vhost: Address) -> Iterator[Management]:
    """The management API of the module's vhost; the tests that need it are skipped on the embedded broker."""
    if waybill_vhost.management_url is None:
        pytest.skip("the embedded broker has no management API")
    with Management(waybill_vhost.management_url, waybill_vhost.vhost) as management:
        yield management


@pytest.fixture(scope="module")
def waybill_app(pytestconfig: pytest.Config, waybill_vhost: Address) -> Iterator[Celery]:
    """The application that `waybill_app` in the configuration names, at the module's vhost."""
    name = pytestconfig.getini("waybill_app")
    if not name:
        pytest.fail("set `waybill_app` in the pytest configuration, or override the fixture `waybill_app`")
    app = find_app(name)
    with brokers.use_broker(app, waybill_vhost.url):
        yield app


@pytest.fixture(scope="module")
def waybill_fleet(pytestconfig: pytest.Config, request: pytest.FixtureRequest, waybill_app: Celery) -> Fleet:
    """The workers that the module's mark `waybill_workers` names, as described; without a mark all of them."""
    fleet = read_fleet(pytestconfig.rootpath / pytestconfig.getini("waybill_fleet"), app=waybill_app)
    marker = request.node.get_closest_marker("waybill_workers")
    return fleet.named(marker.args) if marker else fleet


@pytest.fixture(scope="session")
def waybill_zygote(waybill_broker: Address) -> Iterator[Zygote]:
    """The process that starts the workers of the session, which has Celery loaded already.

    It ends before the broker does, and the last module's workers with it.
    """
    assert waybill_broker
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="module")
def waybill_workers(
    pytestconfig: pytest.Config, waybill_zygote: Zygote, waybill_vhost: Address, waybill_fleet: Fleet
) -> Iterator[LocalWorkers]:
    """The module's workers, as processes of this machine; after it they are told to stop, and not waited for."""
    waybill_zygote.load(loaded_by([pytestconfig.getini("waybill_app")]))
    environment = brokers.environment(waybill_vhost.url)
    with LocalWorkers(waybill_fleet, environment, Path(pytestconfig.rootpath), waybill_zygote) as workers:
        yield workers
        # A database on Redis is the next module's too, so that nobody of this one may be left there.
        workers.stop(wait=not waybill_vhost.has_vhosts)


@pytest.fixture(scope="module")
def waybill_watch(waybill_app: Celery, waybill_fleet: Fleet, waybill_workers: LocalWorkers) -> Iterator[Watch]:
    """Publish, and see who received it; the workers have answered the roll call."""
    with Watch(waybill_app) as watch:
        watch.discover_workers([worker.name for worker in waybill_fleet], waybill_workers.check_alive)
        yield watch
