"""A rule's examples as facts: each is written to a file and imported, as an application is.

An example makes an application `app`. Beside it it may name a `fleet` (the text of a Procfile), what `lives` on the
broker (Kombu's queues) with the messages `waiting` there and its `policies`, and the version of `rabbitmq`.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import _state, signals
from celery.utils.collections import ChainMap
from celery.utils.dispatch import Signal
from kombu import Queue as KombuQueue

from tests.support.check_live import Rig, own_vhost
from waybill.celery_app.declared import Recorder
from waybill.check import Facts, LiveFacts, facts_of
from waybill.check.workers import fleet_facts
from waybill.rabbitmq.management import LiveBinding
from waybill.rabbitmq.state import version_of
from waybill.routing import Router
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.topology import PREDECLARED, Topology
from waybill.topology.policies import Policies

PRELUDE = """\
from celery import Celery
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

app = Celery("proj", broker="amqp://guest:guest@localhost//", set_as_current=False)

"""
# Another application, for a fleet whose workers run it.
OTHER = 'from celery import Celery\n\napp = Celery("other")\n'

_numbers = itertools.count()


def forget_shared_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications that are loaded from here on get no tasks of those that other tests have loaded."""
    own = {one for one in _state._on_app_finalizers if one.__module__ == "celery.app.builtins"}
    monkeypatch.setattr(_state, "_on_app_finalizers", own)


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The folder becomes the current one, from which a check reads the calls; what an example hears goes with it."""
    monkeypatch.chdir(folder)
    for signal in vars(signals).values():
        if isinstance(signal, Signal):
            monkeypatch.setattr(signal, "receivers", list(signal.receivers or ()))
    if isinstance(ChainMap._observers, list):  # in Celery 5.3.0 all applications hear of each other's settings
        monkeypatch.setattr(ChainMap, "_observers", [])


@contextmanager
def standing(broker: Address, example: str, folder: Path) -> Iterator[Rig]:
    """The example's application at a vhost of its own."""
    with own_vhost(broker) as address:
        module = load(example, folder)
        with brokers.use_broker(module.app, address.url):
            rig = Rig(module, address)
            try:
                yield rig
            finally:
                rig.close()


def load(code: str, folder: Path) -> ModuleType:
    """The example as a module, in a folder that is the current one.

    Celery gives the tasks of every application in the process to every other: not to these, and not these.
    """
    shared = _state._on_app_finalizers
    _state._on_app_finalizers = {give for give in shared if give.__module__ == "celery.app.builtins"}
    name = f"waybill_example_{next(_numbers)}"
    (folder / "other.py").write_text(OTHER)
    path = folder / f"{name}.py"
    path.write_text(PRELUDE + code + "\n")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        module.app.finalize()
    finally:
        _state._on_app_finalizers = shared
    return module


def facts(module: ModuleType, folder: Path, live: LiveFacts | None = None) -> Facts:
    """All that the example says."""
    if live is None and hasattr(module, "lives"):
        _ = module.app.amqp.queues  # Celery completes what the queues leave open
        live = existing(module.lives, getattr(module, "waiting", {}), policies=getattr(module, "policies", ()))
    app = facts_of(module.app, live)
    fleet = None
    if hasattr(module, "fleet"):
        procfile = folder / "Procfile"
        procfile.write_text(module.fleet)
        fleet, _ = fleet_facts(procfile, module.app, "proj")
    version = version_of(module.rabbitmq) if hasattr(module, "rabbitmq") else live.version if live else None
    return Facts(app, fleet, live, version)


def existing(
    queues: Sequence[KombuQueue], messages: dict[str, int], vhost: str = "/", policies: Sequence[Mapping[str, Any]] = ()
) -> LiveFacts:
    """A RabbitMQ 4.3 on which these queues live."""
    recorder = Recorder()
    for queue in queues:
        recorder.declare(queue)
    topology = recorder.topology(vhost)
    exchanges = {**PREDECLARED, **{exchange.name: exchange for exchange in topology.exchanges}}
    applied = Policies(tuple(policies))
    bindings = map(LiveBinding, topology.bindings)
    return LiveFacts(
        vhost=vhost,
        version=(4, 3),
        exchange_types=frozenset({"direct", "fanout", "headers", "topic"}),
        denied=frozenset({"global_qos"}),
        permitted=frozenset({"transient_nonexcl_queues"}),
        default_queue_type="classic",
        policies=applied,
        exchanges={name: applied.applied(one) for name, one in exchanges.items()},
        queues={queue.name: applied.applied(queue) for queue in topology.queues},
        messages=messages,
        bindings=tuple(bindings),
        consumers=(),
        router=Router.of(Topology(topology.exchanges, topology.queues, topology.bindings, vhost, policies=applied)),
    )
