"""The examples do what their READMEs say, as they stand: on the embedded broker and on RabbitMQ."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import amqp
import pytest
from kombu import Connection

from tests.support.programs import ROOT, module, until
from waybill.celery_app.fleet.reading import read_fleet
from waybill.celery_app.fleet.workers import Worker
from waybill.testing import brokers
from waybill.testing.brokers import Address
from waybill.testing.workers import Zygote

EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Example:
    """What one of them does.

    Attributes:
        received: worker -> what it prints, in any order unless there is one worker.
        printed: by publish.py.
        is_filled_first: it is published before the workers start.
    """

    name: str
    received: Mapping[str, list[str]]
    printed: str = ""
    is_filled_first: bool = False


CASES = (
    Example(
        "topic",
        {"usa": ["usa.news", "usa.weather"], "headlines": ["usa.news", "norway.news"]},
        "norway.weather: NO_ROUTE\n",
    ),
    Example(
        "fanout",
        {"mail": ["signup of ada", "announcement"], "statistics": ["signup of ada", "announcement"]},
    ),
    Example("priority", {"work": ["priority 9", "priority 5", "priority 1"]}, is_filled_first=True),
    Example(
        "dead_letters",
        {"orders": ["good, attempt 1", "broken, attempt 1", "broken, attempt 2", "broken, attempt 3"]},
    ),
)


def publish(folder: Path, environment: Mapping[str, str]) -> str:
    done = module("publish", environment=environment, folder=folder)
    # py-amqp logs the confirm of a returned message, which comes when the call has raised already.
    assert (done.code, [line for line in done.err.splitlines() if not line.startswith("Received method")]) == (0, [])
    return done.out


@contextmanager
def running(workers: tuple[Worker, ...], zygote: Zygote, folder: Path, url: str) -> Iterator[dict[str, Path]]:
    """The workers of a Procfile; each with the file in which its output is, when all of them consume."""
    environment = {**os.environ, **brokers.environment(url)}
    with ExitStack() as stack:
        logs = {}
        for worker in workers:
            log = stack.enter_context(tempfile.NamedTemporaryFile())
            started = zygote.start(worker.module, worker.arguments, environment, folder, output=log.fileno())
            stack.callback(started.reap)
            stack.callback(started.wait)
            stack.callback(started.kill_group)
            logs[worker.name] = Path(log.name)
        until(lambda: all(is_consumed(url, queue) for worker in workers for queue in worker.queues), "the workers")
        yield logs


def is_consumed(url: str, queue: str) -> bool:
    """Whether somebody consumes the queue; that of a Broadcast has a name of its own, and its worker another queue."""
    with Connection(url) as connection, connection.channel() as channel:
        try:
            return bool(channel.queue_declare(queue, passive=True).consumer_count)
        except amqp.exceptions.NotFound:
            return queue == "announcements"


def received(log: Path) -> list[str]:
    return re.findall(r"received (.*)", log.read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", CASES, ids=lambda example: example.name)
def test_the_example_does_what_its_readme_says(example: Example, waybill_vhost: Address, plain_zygote: Zygote) -> None:
    folder, url = EXAMPLES / example.name, waybill_vhost.url
    environment = brokers.environment(url)
    workers = read_fleet(folder / "Procfile").workers
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"    celery {' '.join(worker.arguments)}\n" in readme for worker in workers)
    if "waybill -A tasks declare" in readme:
        assert module("waybill", "-A", "tasks", "declare", environment=environment, folder=folder).code == 0
    printed = publish(folder, environment) if example.is_filled_first else None
    with running(workers, plain_zygote, folder, url) as logs:
        if printed is None:
            printed = publish(folder, environment)
        until(lambda: all(len(received(logs[name])) >= len(lines) for name, lines in example.received.items()), "them")
        for name, expected in example.received.items():
            found = received(logs[name])
            assert found == expected if example.is_filled_first else sorted(found) == sorted(expected)
    assert printed == example.printed


def test_the_pytest_example_passes(waybill_vhost: Address) -> None:
    arguments = ("-q", "-p", "no:cacheprovider", "--waybill-broker", waybill_vhost.url)
    api = waybill_vhost.management_url
    environment = {"WAYBILL_MANAGEMENT_URL": api} if api else {}
    done = module("pytest", *arguments, environment=environment, folder=EXAMPLES / "routing_test")
    assert (done.code, done.out.splitlines()[-1][:8]) == (0, "1 passed"), done.out + done.err


def test_every_example_is_tried_and_listed() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {*(example.name for example in CASES), "routing_test"}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name})" in listed for name in folders)
