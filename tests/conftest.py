"""Where the tests find their brokers: everything runs on the embedded one and on RabbitMQ, unless one is named.

Markers are set by what a test needs: `unit` and `workers` by its folder or by a fixture with workers, `rabbitmq` where
a fixture stands for RabbitMQ or Redis, `browser` where one stands for a browser.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Set
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, NoReturn

import docker
import pytest
from docker.errors import DockerException
from hypothesis import settings
from testcontainers.community.redis import RedisContainer

from tests.support import report
from tests.support.groups import GroupedTests
from tests.support.programs import ROOT
from tests.support.shares import SHARE
from waybill.errors import BrokerUnavailable
from waybill.pytest_plugin.configuration import FOLDER
from waybill.pytest_plugin.shared import SharedRabbitMQ, shared_rabbitmq
from waybill.testing import brokers
from waybill.testing.brokers import DOCKER, EMBEDDED, Address
from waybill.testing.vhosts import a_vhost
from waybill.testing.workers import Zygote

if TYPE_CHECKING:  # it imports the showcase, which must come after what is set below
    from tests.support.showcase import Lessons, Showcase

NAMED = os.environ.get("WAYBILL_BROKER_URL") or os.environ.get("BROKER")

REDIS_IMAGE = "redis:8"

# Fixtures, and parameters of fixtures, that stand for something in a container.
IN_CONTAINERS = frozenset({"docker_engine", "rabbitmq", "rabbitmq_url", "redis_url"})
CALLED = frozenset({"RabbitMQ", "rabbitmq", "Redis"})
WITH_WORKERS = frozenset({"waybill_workers", "waybill_watch", "showcase"})
WITH_A_BROWSER = frozenset({"browser"})
FOLDERS = ("unit", "workers")

# Where results are kept, unless something is named: the showcase's settings are read from the environment when it is
# first imported, which is before any fixture.
if "WAYBILL_RESULT_BACKEND" not in os.environ:
    RESULTS = tempfile.mkdtemp(prefix="waybill-tests-")
    os.environ["WAYBILL_RESULT_BACKEND"] = f"file://{RESULTS}"
    atexit.register(shutil.rmtree, RESULTS, ignore_errors=True)

# The share that runs with the tests is the same every time; `--hypothesis-profile nightly` is another every time.
settings.register_profile("share", derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile("share")


def pytest_configure(config: pytest.Config) -> None:
    """Short reports; whole groups of tests, and one RabbitMQ, for several processes."""
    config.pluginmanager.register(report)
    config.pluginmanager.register(GroupedTests())
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SharedRabbitMQ())


def pytest_report_header() -> str:
    """What of the generated tests runs."""
    return f"share: {SHARE}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by what it needs."""
    for marker in _needs(item):
        item.add_marker(marker)


def _needs(item: pytest.Item) -> Iterator[str]:
    folder = item.path.relative_to(ROOT).parts[1]
    fixtures: Set[str] = set(getattr(item, "fixturenames", ()))
    callspec: Any = getattr(item, "callspec", None)
    values = {value for value in callspec.params.values() if isinstance(value, str)} if callspec else set()
    if folder in FOLDERS:
        yield folder
    elif WITH_WORKERS & fixtures:
        yield "workers"
    if IN_CONTAINERS & fixtures or (folder != "unit" and CALLED & values):
        yield "rabbitmq"
    if WITH_A_BROWSER & fixtures:
        yield "browser"


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """A Docker engine; the tests that need one are skipped, or fail, where none answers."""
    reason = _why_no_docker()
    if reason:
        skip_or_fail(f"{report.NO_DOCKER}{reason}")


def _why_no_docker() -> str | None:
    try:
        with closing(docker.from_env()) as client:
            client.ping()
    except DockerException as error:
        return str(error).partition(" (Caused by")[0]
    return None


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test, or fail where Docker is required."""
    if os.environ.get("WAYBILL_REQUIRE_DOCKER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def rabbitmq(request: pytest.FixtureRequest) -> Iterator[Address]:
    """A RabbitMQ for the session: the one that is named, or a container, which the processes of a run share."""
    which = NAMED if NAMED and NAMED != EMBEDDED else DOCKER
    if which == DOCKER:
        request.getfixturevalue("docker_engine")
    folder = getattr(request.config, "workerinput", {}).get(FOLDER)
    if which != DOCKER or folder is None:
        with ExitStack() as stack:
            try:
                address = stack.enter_context(brokers.broker(which))
            except BrokerUnavailable as error:
                skip_or_fail(str(error))
            yield address
        return
    try:
        shared = shared_rabbitmq(folder)
    except BrokerUnavailable as error:
        skip_or_fail(str(error))
    with a_vhost(shared) as address:
        yield address


@pytest.fixture(scope="session")
def rabbitmq_url(rabbitmq: Address) -> str:
    """The AMQP URL of a RabbitMQ whose own vhost the tests may fill and empty: the workers' are others."""
    return rabbitmq.url


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Redis in a container."""
    request.getfixturevalue("docker_engine")
    with ExitStack() as stack:
        try:
            container = RedisContainer(REDIS_IMAGE)
            container.ports = {container.port: ("127.0.0.1", None)}
            stack.enter_context(container)
        except (DockerException, TimeoutError) as error:
            skip_or_fail(f"{report.NO_DOCKER}no Redis in a container: {str(error).splitlines()[0]}")
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(container.port)}/0"


@pytest.fixture(scope="session", params=[NAMED] if NAMED else [EMBEDDED, "rabbitmq"])
def waybill_broker(request: pytest.FixtureRequest) -> Iterator[Address]:
    """The broker that the showcase's tests run on: each in turn."""
    if request.param == "rabbitmq":
        yield request.getfixturevalue("rabbitmq")
    else:
        with brokers.broker(request.param) as address:
            yield address


@pytest.fixture(scope="session")
def plain_zygote() -> Iterator[Zygote]:
    """A zygote for other applications than the showcase, whose libraries that of the plugin has loaded."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="session")
def showcase(waybill_broker: Address, waybill_zygote: Zygote) -> Iterator[Showcase]:
    """The whole fleet at a vhost of its own, one for the session: for tests that only publish, and ask who received."""
    from tests.support.showcase import started

    with a_vhost(waybill_broker) as address, started(address, waybill_zygote) as made:
        yield made


@pytest.fixture(scope="session")
def lessons(showcase: Showcase) -> Lessons:
    """Each lesson on the showcase, with its default arguments, played once."""
    from tests.support.showcase import Lessons

    return Lessons(showcase)
