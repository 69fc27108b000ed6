"""Fixtures: a broker, a fresh vhost for each module, the workers that it names, and who received what.

    # pyproject.toml
    [tool.pytest.ini_options]
    waybill_app = "proj.app:app"

    # test_routing.py
    def test_videos(waybill_watch):
        waybill_watch.publish("proj.tasks.encode", ("a.mov",), exchange="media", routing_key="media.video")
        (delivery,) = waybill_watch.settle()
        assert delivery.queues == {"videos"}

Which broker: `--waybill-broker`, else `WAYBILL_BROKER_URL`, else `BROKER`, else the embedded one. Who receives: a
thread that consumes each queue of the application, or with `waybill_fleet` the workers of that file, as processes.
Either way they receive and acknowledge, and run nothing unless they are told to.

pytest loads this file in each of its runs. So it imports pytest and the standard library only, and the fixtures import
what they need.

    configuration.py   the settings and marks, and what is wrong with them
    stage.py           the application, the fleet and the workers of a module
    comparing.py       why an assertion about queues fails
    shared.py          one RabbitMQ in a container for all processes of pytest-xdist
    failures.py        errors without our frames, with the workers' last lines
    django.py          the test database of pytest-django, for workers that run tasks
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from waybill.pytest_plugin import configuration, failures
from waybill.pytest_plugin.configuration import Asked

if TYPE_CHECKING:
    from celery import Celery

    from waybill.celery_app.fleet.workers import Fleet
    from waybill.rabbitmq.management import Management
    from waybill.testing.brokers import Address
    from waybill.testing.receivers import Receivers
    from waybill.testing.watch import Watch
    from waybill.testing.workers import LocalWorkers, Zygote

# The watch of the tests that run.
WATCH: pytest.StashKey[Watch] = pytest.StashKey()
# The zygote, where one was started with the broker.
ZYGOTE: pytest.StashKey[Zygote] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    configuration.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    configuration.add_markers(config)
    is_controller = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if is_controller and configuration.broker(config) == "docker":
        from waybill.pytest_plugin.shared import SharedRabbitMQ

        config.pluginmanager.register(SharedRabbitMQ())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with marks of its own gets a vhost and workers of its own, by a parameter of the module's fixture."""
    if "waybill_asked" in metafunc.fixturenames:
        asked = configuration.asked_by(metafunc.definition)
        if asked != configuration.asked_by(metafunc.definition.getparent(pytest.Module)):
            hidden: Any = getattr(pytest, "HIDDEN_PARAM", str(asked))  # since pytest 8.4
            metafunc.parametrize("waybill_asked", [asked], indirect=True, scope="module", ids=[hidden])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """An error of ours is told without our frames, with the workers' last lines."""
    failures.hide_our_frames(call)
    report = yield
    failures.add_logs(item, call, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """What a test has published and stated is not the next one's."""
    watch = getattr(item, "funcargs", {}).get("waybill_watch")
    if watch is not None:
        failures.forget(watch)


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain what was received otherwise than expected."""
    watch = config.stash.get(WATCH, None)
    is_ours = "waybill.testing.delivery" in (type(left).__module__, type(right).__module__)
    if op != "==" or not is_ours or watch is None:
        return None
    from waybill.pytest_plugin.comparing import explained

    return explained(watch, left, right)


@pytest.fixture(scope="session")
def waybill_broker(pytestconfig: pytest.Config) -> Iterator[Address]:
    """A broker for the session."""
    from waybill.testing.workers import Zygote

    with contextlib.ExitStack() as stack:
        if pytestconfig.getini("waybill_fleet"):
            # It loads Celery while this process does, and ends before the broker.
            pytestconfig.stash[ZYGOTE] = zygote = Zygote()
            zygote.start_loading()
            stack.callback(zygote.close_unused)
        from waybill.pytest_plugin import stage

        yield stack.enter_context(
            stage.a_broker(configuration.broker(pytestconfig), configuration.shared(pytestconfig))
        )


@pytest.fixture(scope="module")
def waybill_asked(request: pytest.FixtureRequest) -> Asked:
    """What the marks of the module, or of a test with marks of its own, ask for."""
    asked: Asked = getattr(request, "param", None) or configuration.asked_by(request.node)
    return asked.checked()


@pytest.fixture(scope="module")
def waybill_vhost(waybill_broker: Address, waybill_asked: Asked) -> Iterator[Address]:
    """A vhost that only this module uses, deleted after it; on Redis, which has none, the database that is named."""
    from waybill.testing.vhosts import a_vhost

    assert waybill_asked is not None  # a test with marks of its own has a vhost of its own
    with failures.plainly(), a_vhost(waybill_broker) as address:
        yield address


@pytest.fixture(scope="module")
def waybill_management(waybill_vhost: Address) -> Iterator[Management]:
    """The management API of the module's vhost; its tests are skipped where the embedded broker has none."""
    from waybill.rabbitmq.management import Management

    if waybill_vhost.management_url is None:
        pytest.skip("the embedded broker has a management API with `pip install waybill[live]`")
    with Management(waybill_vhost.management_url, waybill_vhost.vhost) as management:
        yield management


@pytest.fixture(scope="module")
def waybill_app(pytestconfig: pytest.Config, waybill_vhost: Address, waybill_asked: Asked) -> Iterator[Celery]:
    """The application that `waybill_app` in the configuration names, at the module's vhost."""
    from waybill.pytest_plugin import stage

    with failures.plainly():
        app = stage.application(pytestconfig, waybill_asked)
    with stage.at_the_broker(app, waybill_vhost, runs_tasks=waybill_asked.runs_tasks(pytestconfig)):
        yield app


@pytest.fixture(scope="module")
def waybill_fleet(pytestconfig: pytest.Config, waybill_asked: Asked, waybill_app: Celery) -> Fleet:
    """The workers that the mark `waybill_workers` names, as described; without a mark all of them."""
    from waybill.pytest_plugin import stage

    with failures.plainly():
        return stage.fleet(pytestconfig, waybill_asked, waybill_app)


@pytest.fixture(scope="session")
def waybill_zygote(pytestconfig: pytest.Config, waybill_broker: Address) -> Iterator[Zygote]:
    """The process that starts the workers of the session, which has Celery loaded already.

    It ends before the broker does, and the last module's workers with it.
    """
    from waybill.testing.workers import Zygote

    assert waybill_broker
    with pytestconfig.stash.get(ZYGOTE, None) or Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="module")
def waybill_workers(
    request: pytest.FixtureRequest, waybill_vhost: Address, waybill_asked: Asked, waybill_app: Celery
) -> Iterator[LocalWorkers | Receivers]:
    """The module's workers: processes of this machine, or receivers in a thread where no fleet is described."""
    from waybill.pytest_plugin import stage

    with stage.workers(request, waybill_vhost, waybill_asked, waybill_app) as workers:
        yield workers


@pytest.fixture(scope="module")
def waybill_watch(
    pytestconfig: pytest.Config,
    waybill_app: Celery,
    waybill_vhost: Address,
    waybill_workers: LocalWorkers | Receivers,
) -> Iterator[Watch]:
    """Publish, and see who received it; the workers are ready."""
    from waybill.pytest_plugin import stage

    with stage.watch(waybill_app, waybill_workers, waybill_vhost.management_url) as watch:
        pytestconfig.stash[WATCH] = watch
        yield watch
