"""What a module's tests stand on: a broker, the application at a vhost, its workers, and a watch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
from celery import Celery
from kombu import Queue

from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Fleet, Worker
from waybill.celery_app.installed import settings_overridden
from waybill.celery_app.loading import load_application
from waybill.celery_app.private import drop_result_backend
from waybill.errors import BrokerUnavailable, InputError, UnknownName
from waybill.pytest_plugin import configuration, django
from waybill.pytest_plugin.configuration import Asked
from waybill.pytest_plugin.failures import plainly, refusal
from waybill.pytest_plugin.shared import shared_rabbitmq
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.receivers import Receivers, declare, one_for_each
from waybill.testing.watch import Watch
from waybill.testing.workers import LocalWorkers, Zygote, loaded_by
from waybill.testing.workers.arguments import LOADED, in_a_test
from waybill.testing.workers.local import GRACE
from waybill.testing.workers.receiver import RUN_TASKS

# Celery takes this setting from the environment first (celery/app/utils.py, Settings).
RESULT_VARIABLE = "CELERY_RESULT_BACKEND"


@contextmanager
def a_broker(which: str = "", shared: str = "") -> Iterator[Address]:
    """A broker for the tests within, by default the embedded one. They fail if it can't be had.

    Args:
        shared: the folder by which to ask for a RabbitMQ that all processes share.
    """
    with ExitStack() as stack:
        with plainly():
            if shared:
                address = shared_rabbitmq(shared)
            else:
                address = stack.enter_context(brokers.broker(which or brokers.DEFAULT))
        yield address


def application(config: pytest.Config, asked: Asked) -> Celery:
    """The application, with its tasks.

    Raises:
        InputError: it can't be loaded.
    """
    name = asked.application(config)
    if not name:
        raise refusal(
            'no application: set `waybill_app` in the pytest configuration, such as waybill_app = "proj.celery:app", '
            "or override the fixture `waybill_app`"
        )
    file = asked.fleet_file(config)
    folders = [config.rootpath, *([file.parent] if file else [])]
    return load_application(name, [folder for folder in folders if str(folder) not in sys.path])


@contextmanager
def at_the_broker(app: Celery, address: Address, *, runs_tasks: bool) -> Iterator[None]:
    """The application uses this vhost within the block, and what it publishes is confirmed.

    Without a confirm a message may come to its queue after a marker that was published later. Where no task runs there
    are no results, so nobody is connected to for them.
    """
    settings: dict[str, object] = {}
    if address.has_vhosts:
        settings["broker_transport_options"] = {**(app.conf.broker_transport_options or {}), "confirm_publish": True}
    if not runs_tasks:
        settings["result_backend"] = "disabled://"
    with settings_overridden(app, settings), _without_variable(RESULT_VARIABLE if not runs_tasks else ""):
        drop_result_backend(app)
        with brokers.use_broker(app, address.url):
            yield
    drop_result_backend(app)


@contextmanager
def _without_variable(name: str) -> Iterator[None]:
    value = os.environ.pop(name, None) if name else None
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


def fleet(config: pytest.Config, asked: Asked, app: Celery) -> Fleet:
    """The workers that are asked for, as described.

    Raises:
        InputError: the description can't be read, or no worker has such a name.
    """
    file = asked.fleet_file(config)
    if file is None:
        raise refusal("no fleet: set `waybill_fleet` in the pytest configuration to a compose file or a Procfile")
    described = read_fleet(file, app=app)
    if asked.names is None:
        return described
    # The workers that aren't started declare their queues in production; only who consumes is chosen here.
    _declare_queues_of(described, app)
    try:
        return described.named(asked.names)
    except UnknownName as error:
        _refuse_name(error, described)


def _declare_queues_of(described: Fleet, app: Celery) -> None:
    consumed = {queue for worker in described for queue in worker.queues}
    with brokers.connect(app) as connection:
        declare(app, connection, [queue for name, queue in app.amqp.queues.items() if name in consumed])


def _refuse_name(error: UnknownName, described: Fleet) -> NoReturn:
    """Say which name a worker has; it may be known by that of its service or line."""
    for worker in described:
        if worker.service == error.name:
            is_named = any(word in ("-n", "--hostname") for word in worker.arguments)
            why = f"its `-n` is `{worker.node_name}`" if is_named else "it has no `-n`"
            raise InputError(f"No worker `{error.name}` in the fleet: {why}; its name is `{worker.name}`.") from error
    names = ", ".join(f"`{worker.name}`" for worker in described)
    nearest = f" Did you mean `{error.nearest}`?" if error.nearest else ""
    raise InputError(f"No worker `{error.name}` in the fleet, which has {names}.{nearest}") from error


@contextmanager
def workers(
    request: pytest.FixtureRequest, address: Address, asked: Asked, app: Celery
) -> Iterator[LocalWorkers | Receivers]:
    """The workers of a module, running."""
    config = request.config
    runs_tasks = asked.runs_tasks(config)
    if asked.fleet_file(config) is not None:
        described: Fleet = request.getfixturevalue("waybill_fleet")
        with _processes(request, address, asked, described, runs_tasks=runs_tasks) as processes:
            yield processes
        return
    if runs_tasks:
        described = _worker_for_each_queue(asked.application(config), _receivers(asked, app))
        with _processes(request, address, asked, described, runs_tasks=True) as processes:
            yield processes
        return
    with ExitStack() as stack:
        with plainly():
            named = _receivers(asked, app)
            is_all = asked.queues is None and asked.names is None
            receivers = stack.enter_context(Receivers(app, None if is_all else named))
        yield receivers


def _receivers(asked: Asked, app: Celery) -> Mapping[str, Sequence[Queue]]:
    """The receivers that are asked for, with their queues."""
    known = app.amqp.queues
    each = one_for_each(app)
    if asked.queues is not None:
        wanted = {name: list(queues) for name, queues in asked.queues}
        missing = [queue for queues in wanted.values() for queue in queues if queue not in known and queue not in each]
        if missing:
            raise UnknownName("queue", missing[0], known, "the application")
        return {
            name: [known[one] if one in known else each[one][0] for one in queues] for name, queues in wanted.items()
        }
    if asked.names is None:
        return each
    for name in asked.names:
        if name not in each:
            raise InputError(
                f"No worker `{name}`: no `waybill_fleet` is set, so there is a receiver for each queue: "
                f"{', '.join(f'`{one}`' for one in each)}."
            )
    return {name: each[name] for name in asked.names}


def _worker_for_each_queue(app: str, receivers: Mapping[str, Sequence[Queue]]) -> Fleet:
    """The workers that run tasks where no fleet is described."""
    if not app:
        raise refusal("run=True needs workers that load the application by its name: set `waybill_app`")
    return Fleet(
        tuple(
            Worker(
                service=name,
                node_name=f"{name}@%h",
                queues=tuple(queue.alias or queue.name for queue in queues),
                arguments=(
                    *("-A", app, "worker", "-n", f"{name}@%h", "-P", "solo"),
                    *("-Q", ",".join(queue.alias or queue.name for queue in queues)),
                    *("--without-mingle", "--without-gossip", "--without-heartbeat"),
                ),
                app=app,
            )
            for name, queues in receivers.items()
        )
    )


@contextmanager
def _processes(
    request: pytest.FixtureRequest, address: Address, asked: Asked, described: Fleet, *, runs_tasks: bool
) -> Iterator[LocalWorkers]:
    config = request.config
    zygote: Zygote = request.getfixturevalue("waybill_zygote")
    zygote.load(LOADED)
    zygote.load(loaded_by([asked.application(config)]))
    variables = {
        **configuration.environment(config),
        **brokers.environment(address.url),
        RUN_TASKS: str(int(runs_tasks)),
        **(django.variables(request) if runs_tasks else {}),
    }
    started = [in_a_test(worker, runs_tasks=runs_tasks) for worker in described]
    folder = _folder(described, [file.parent] if (file := asked.fleet_file(config)) else [], config.rootpath)
    with LocalWorkers(started, variables, folder, zygote, runs_tasks=runs_tasks) as running:
        yield running
        # A database on Redis is the next module's too, so that nobody of this one may be left there. Who only receives
        # has nothing to finish.
        is_shared = not address.has_vhosts
        running.stop(GRACE if runs_tasks or is_shared else 0.0, wait=is_shared)


def _folder(described: Fleet, first: Sequence[Path], root: Path) -> Path:
    """The folder in which the workers' applications can be imported: that of the fleet's file, or pytest's root."""
    modules = {worker.app.partition(":")[0].partition(".")[0] for worker in described if worker.app}
    below = [Path(entry) for entry in sys.path if entry and root in Path(entry).parents]
    for folder in (*first, root, *below):
        if all((folder / f"{module}.py").exists() or (folder / module).is_dir() for module in modules):
            return folder
    return (*first, root)[0]


@contextmanager
def watch(app: Celery, running: LocalWorkers | Receivers, management_url: str | None) -> Iterator[Watch]:
    """Watch the workers, which are ready when the block is entered."""
    made = Watch(app, management_url=management_url if management_url and _answers(management_url) else None)
    made.watch(running)
    with ExitStack() as stack:
        with plainly():
            stack.enter_context(made)
            names = [worker.name for worker in running.workers] if isinstance(running, LocalWorkers) else []
            made.discover_workers(names, running.check_alive)
        yield made


@cache
def _answers(management_url: str) -> bool:
    """Whether there is a management API: where a broker is given by its URL, it may be guessed."""
    from waybill.rabbitmq.management import Management

    try:
        with Management(management_url) as management:
            management.overview()
    except BrokerUnavailable:
        return False
    return True
