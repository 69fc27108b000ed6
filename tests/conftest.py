"""Where the tests find their brokers: everything runs on the embedded one and on RabbitMQ, unless one is named."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from docker.errors import DockerException
from testcontainers.community.redis import RedisContainer

from waybill.provision import DOCKER, EMBEDDED, Address
from waybill.pytest_plugin import a_broker

NAMED = os.environ.get("WAYBILL_BROKER_URL") or os.environ.get("BROKER")

REDIS_IMAGE = "redis:8"

# Where results are kept, unless something is named: the showcase's settings are read from the environment when it is
# first imported, which is before any fixture.
if "WAYBILL_RESULT_BACKEND" not in os.environ:
    RESULTS = tempfile.mkdtemp(prefix="waybill-tests-")
    os.environ["WAYBILL_RESULT_BACKEND"] = f"file://{RESULTS}"
    atexit.register(shutil.rmtree, RESULTS, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Address]:
    """A RabbitMQ for the session: the one that is named, or a container."""
    with a_broker(NAMED if NAMED and NAMED != EMBEDDED else DOCKER) as address:
        yield address


@pytest.fixture(scope="session")
def rabbitmq_url(rabbitmq: Address) -> str:
    """The AMQP URL of a RabbitMQ whose own vhost the tests may fill and empty: the workers' are others."""
    return rabbitmq.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis in a container; the tests that need it are skipped, or fail, without Docker."""
    with ExitStack() as stack:
        try:
            container = RedisContainer(REDIS_IMAGE)
            container.ports = {container.port: ("127.0.0.1", None)}
            stack.enter_context(container)
        except (DockerException, TimeoutError) as error:
            if os.environ.get("WAYBILL_REQUIRE_DOCKER") == "1":
                pytest.fail(str(error))
            pytest.skip(f"no Redis in a container: {str(error).splitlines()[0]}")
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(container.port)}/0"


@pytest.fixture(scope="session", params=[NAMED] if NAMED else [EMBEDDED, "rabbitmq"])
def waybill_broker(request: pytest.FixtureRequest) -> Iterator[Address]:
    """The broker that the showcase's tests run on: each in turn."""
    if request.param == "rabbitmq":
        yield request.getfixturevalue("rabbitmq")
    else:
        with a_broker(request.param) as address:
            yield address
