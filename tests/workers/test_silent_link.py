"""A broker that is there and says nothing any more: a watch ends with a line, and does not wait for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from celery import Celery

from tests.support.programs import PATIENCE
from waybill import Watch, enable_receipts, use_broker
from waybill.errors import FleetError
from waybill.testing import brokers


@pytest.fixture
def broker() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An embedded broker in a process of its own, which can be stopped, and its URL."""
    command = [sys.executable, "-m", "waybill", "broker", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[3]
            yield process, address.replace("amqp://", "amqp://guest:guest@")
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        process.wait(PATIENCE)


def test_a_publication_on_a_silent_link(
    broker: tuple[subprocess.Popen[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, url = broker
    monkeypatch.setattr(brokers, "SILENCE", 0.3)
    app = Celery("silent", set_as_current=False)
    enable_receipts(app)
    with use_broker(app, url), Watch(app) as watch:
        watch.publish("shop.note")
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(FleetError, match=r"lost while 'shop\.note' was published"):
            watch.publish("shop.note")
        process.send_signal(signal.SIGCONT)
