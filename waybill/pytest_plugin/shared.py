"""One RabbitMQ in a container for all processes of pytest-xdist: starting one takes ten seconds of a core.

The process that hands out the tests (xdist's controller) starts the container when the first of the others asks for it,
and ends it after the last test. Each of them works in vhosts of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from waybill.errors import BrokerUnavailable
from waybill.pytest_plugin.configuration import FOLDER

if TYPE_CHECKING:
    from waybill.testing.brokers import Address

# What is in the folder that a process is told: a pipe to ask by, a file with the answer.
ASKED, ANSWER = "asked", "answer.json"

# Seconds in which a container has to be there, and in which it has to be gone; and between two looks.
START, END, PACE = 600.0, 60.0, 0.02


class SharedRabbitMQ:
    """The controller's side, as a plugin of pytest."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="waybill-rabbitmq-"))
        os.mkfifo(self._folder / ASKED)
        # Open for both, so that neither side waits for the other to open it.
        self._asked = os.open(self._folder / ASKED, os.O_RDWR)
        self._ended = Event()
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a process where to ask."""
        node.workerinput[FOLDER] = str(self._folder)

    def pytest_unconfigure(self) -> None:
        """End the container, where there is one."""
        self._ended.set()
        os.write(self._asked, b".")  # wakes a thread that nobody has asked
        self._thread.join(END)
        os.close(self._asked)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> None:
        from waybill.testing import brokers

        os.read(self._asked, 1)
        if self._ended.is_set():
            return
        try:
            with brokers.broker(brokers.DOCKER) as address:
                self._answer(asdict(address))
                self._ended.wait()
        except BrokerUnavailable as error:
            self._answer({"unavailable": str(error)})

    def _answer(self, answer: Mapping[str, Any]) -> None:
        written = self._folder / "written"
        written.write_text(json.dumps(answer))
        written.rename(self._folder / ANSWER)


def shared_rabbitmq(folder: str) -> Address:
    """The RabbitMQ of the test run whose controller has told us this folder.

    Raises:
        BrokerUnavailable: as `brokers.broker`.
    """
    from waybill.testing.brokers import Address

    answer = Path(folder, ANSWER)
    if not answer.exists():
        Path(folder, ASKED).write_bytes(b"?")
    deadline = monotonic() + START
    while not answer.exists():
        if monotonic() > deadline:
            raise BrokerUnavailable(
                f"no broker in a container: the test run's controller has none within {START:.0f} s"
            )
        sleep(PACE)
    found = json.loads(answer.read_text())
    if "unavailable" in found:
        raise BrokerUnavailable(found["unavailable"])
    return Address(**found)
