"""Commands that connect to a broker, or try to."""

from __future__ import annotations

import sys
from pathlib import Path

import pika
import pytest

from publishers import raw
from tests.support.programs import Result, call
from waybill.errors import InputError, UnknownName
from waybill.testing.brokers import Address


def waybill(*arguments: str) -> Result:
    return call("waybill.cli", *arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which modules of an application may be put."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


ASKING = (
    ("explain", "shop.add"),
    ("check",),
    ("declare",),
    ("diff", "--management", "http://guest:guest@127.0.0.1:1"),
)


# A setting -> what the one line begins with, and the commands that read it
SETTINGS: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "task_queues='abc'": ("the setting task_queues: expected a list of kombu.Queue", ASKING),
    "task_queues=[1]": ("the setting task_queues: expected a list of kombu.Queue", ASKING),
    "task_queues={'a': 1}": ("the setting task_queues: expected a list of kombu.Queue", ASKING),
    "task_default_queue=5": ("the application's queues: expected text for the name of the queue, got 5", ASKING),
    "task_default_exchange=5": ("the application's queues: expected text for the name of the exchange", ASKING),
    "waybill_exchange_bindings=[1]": ("the setting waybill_exchange_bindings: expected a mapping", ASKING[:-1]),
    "waybill_exchange_bindings={1: 2}": ("the setting waybill_exchange_bindings: expected a mapping", ASKING[:-1]),
    "beat_schedule=[1]": ("the setting beat_schedule: expected a mapping from names to entries, got [1]", ASKING[1:2]),
    "broker_url='redis://u:s3cret@127.0.0.1/x'": (
        "the application's broker 'redis://u:**@127.0.0.1/x': not a URL",
        ASKING[2:3],
    ),
    "broker_url='amqp://127.0.0.1:1;nosuch://u:s3cret@h'": (
        "the application's broker 'amqp://127.0.0.1:1;nosuch://u:**@h': KeyError: 'No such transport: nosuch'",
        ASKING[2:3],
    ),
    "broker_url='amqp://127.0.0.1:1;amqp://u:[s3cret]@h'": (
        "the application's broker 'amqp://127.0.0.1:1;amqp://u:**@h': not a URL",
        ASKING[2:3],
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_is_none_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    said, commands = SETTINGS[setting]
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    (folder / "shop.py").write_text(
        "from celery import Celery\napp = Celery('shop', broker='memory://', set_as_current=False)\n"
        f"app.conf.update({setting})\n@app.task(shared=False)\ndef add(): ...\n"
    )
    for arguments in commands:
        monkeypatch.delitem(sys.modules, "shop", raising=False)
        result = waybill("-A", "shop", *arguments)
        assert result.complaint.startswith(f"error: {said}")
        assert (result.code, result.out) == (2, "")


def test_a_refusal_of_the_raw_publisher_is_in_the_words_of_rabbitmq(waybill_vhost: Address) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(waybill_vhost.url))
    connection.channel().exchange_declare("raw-internal", "fanout", internal=True)
    connection.close()
    properties, body = raw.message("worker.tasks.encode")
    with pytest.raises(InputError, match="RabbitMQ refuses the publication: ACCESS_REFUSED - cannot publish to int"):
        raw.publish(waybill_vhost.url, "raw-internal", "", properties, body)
    with pytest.raises(UnknownName, match="no exchange 'raw-internl'"):
        raw.publish(waybill_vhost.url, "raw-internl", "", properties, body)
