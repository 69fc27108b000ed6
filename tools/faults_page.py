"""The table in docs/explanation/faults.md: what publishers do under each fault, made by running them.

`python -m tools.faults_page` writes it anew, on the embedded broker and on the RabbitMQ that `BROKER` names, which has
the same faults on a proxy before it. A test compares.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any, Protocol

import pika
from celery import Celery
from kombu import Connection, Exchange, Producer, Queue
from pamqp import commands

from tests.support.fault_proxy import FaultProxy
from tests.support.programs import ROOT
from tests.support.wire import Wire
from waybill.broker import Broker, Faults
from waybill.broker.faults import Injected
from waybill.broker.server import Keep
from waybill.testing import brokers

PAGE = ROOT / "docs" / "explanation" / "faults.md"
TABLE = re.compile(r"(?<=<!-- made by python -m tools.faults_page -->\n).*?(?=<!-- end -->)", re.DOTALL)

PATIENCE = 1.5
"""Seconds after which a call is said to wait: Celery's retries take 0.6."""

NOTICE = 0.3
"""Seconds for a fault to happen at the first message; where nothing happens to this publisher, all of them pass."""

SETTLING = 0.6
"""Seconds in which all is in the queue: RabbitMQ's connections and channels are processes, and some faults end."""

QUEUE = "letters"
MESSAGES = ("one", "two")

Publish = Callable[[str], object]


class Site(Protocol):
    """A broker with faults."""

    injected: list[Injected]

    @property
    def url(self) -> str:
        """Where to connect."""


@dataclass(frozen=True)
class Row:
    """A fault, by what it is to a publisher.

    Args:
        what: in words.
        faults: as given to the broker.
        restart: what a restart between the two messages keeps; the proxy cannot restart RabbitMQ.
    """

    what: str
    faults: tuple[Any, ...] = ()
    restart: Keep | None = None

    @property
    def code(self) -> str:
        """As it is written."""
        if self.restart is not None:
            return f'restart(keep="{self.restart}", is_crash=True)'
        return ", ".join(map(written, self.faults))


def written(fault: Any) -> str:
    """A fault as one writes it: what is not the default."""
    values = [(one.name, getattr(fault, one.name), one.default) for one in fields(fault)]
    given = (
        f"{name}={json.dumps(value)}" if isinstance(value, str) else f"{name}={value}"
        for name, value, default in values
        if value != default
    )
    return f"{type(fault).__name__}({', '.join(given)})"


PUBLISH = "basic.publish"
ROWS = (
    Row("nothing"),
    Row("the connection ends within the message", (Faults.Cut("client", 1, byte=20, of=PUBLISH),)),
    Row("the connection ends behind the message", (Faults.Cut("client", 1, of=PUBLISH),)),
    Row("the same with a reset", (Faults.Cut("client", 1, of=PUBLISH, reset=True),)),
    Row("the same on every connection", (Faults.Cut("client", 1, of=PUBLISH, connection=None),)),
    Row("nobody answers any more, from behind the message", (Faults.HalfOpen("client", 1, of=PUBLISH),)),
    Row("the confirm never comes", (Faults.Withhold(),)),
    Row("the confirm comes late", (Faults.Delay(seconds=0.5),)),
    Row("a nack, the message is lost", (Faults.Nack(),)),
    Row("a nack, the message is kept", (Faults.Nack(is_kept=True),)),
    Row("the channel is closed with 406", (Faults.Refuse(406),)),
    Row("the connection is closed with 541", (Faults.Refuse(541),)),
    Row("the login is refused with 530, once", (Faults.Refuse(530, "connection.open"),)),
    Row("blocked for half a second", (Faults.Block(seconds=0.5),)),
    Row("blocked for good", (Faults.Block(),)),
    Row("the broker reads slowly", (Faults.SlowReader(20_000),)),
    Row("a restart between the messages", restart="durable"),
    Row("a restart that loses all", restart="nothing"),
)


# the publishers: each connects, and gives a function that publishes one message


@contextmanager
def celery(url: str, transport: dict[str, object] | None = None, **options: Any) -> Iterator[Publish]:
    """`apply_async` with these options, and the connection's own.

    At the end the broker is asked for an answer on the channel, where it still gives one: what was published without
    confirms has come then.
    """
    app = Celery("letters", broker=url, set_as_current=False)
    app.conf.update(task_default_queue=QUEUE, broker_transport_options=transport or {})

    @app.task(name="letters.write", shared=False)
    def write(text: str) -> None:
        """Never run."""

    try:
        yield lambda text: write.apply_async((text,), **options)
        with suppress(Exception), app.producer_pool.acquire(block=True) as producer:
            producer.channel.queue_declare(QUEUE, passive=True)
    finally:
        app.close()


@contextmanager
def kombu(url: str) -> Iterator[Publish]:
    """A producer with confirms and `retry=True`."""
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        policy = {"max_retries": 3}
        # Made at the first message, so that a refused login is that one's.
        made: list[Producer] = []

        def publish(text: str) -> None:
            made[:] = made or [connection.Producer()]
            made[0].publish(text, routing_key=QUEUE, delivery_mode=2, retry=True, retry_policy=policy)

        yield publish


@contextmanager
def pika_blocking(url: str) -> Iterator[Publish]:
    """A blocking channel with `confirm_delivery`; after an error it connects again, as its caller has to."""
    made: list[Any] = []

    def publish(text: str) -> None:
        if not made or not made[0].is_open:
            channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
            channel.confirm_delivery()
            made[:] = [channel]
        made[0].basic_publish("", QUEUE, text.encode(), pika.BasicProperties(delivery_mode=2))

    yield publish
    if made and made[0].connection.is_open:
        made[0].connection.close()


PUBLISHERS: dict[str, Callable[[str], Any]] = {
    "Celery": celery,
    "Celery, confirms": lambda url: celery(url, {"confirm_publish": True}),
    "... `confirm_timeout=0.2`": lambda url: celery(url, {"confirm_publish": True}, confirm_timeout=0.2),
    "... `read_timeout` 0.2": lambda url: celery(url, {"confirm_publish": True, "read_timeout": 0.2}),
    "Kombu, confirms, `retry=True`": kombu,
    "pika, confirms": pika_blocking,
}


# one cell


class Attempt:
    """One publisher's two messages, one after the other, in a thread of its own.

    Args:
        site: where it connects.
        home: the broker's own URL.
        between: what is done between the messages.

    Attributes:
        saw: what its caller saw of each.
    """

    def __init__(
        self, row: Row, publisher: Callable[[str], Any], site: Site, home: str, between: Callable[[], None] | None
    ) -> None:
        self.saw: list[str] = []
        self._row = row
        self._site = site
        self._home = home
        self._between = between
        self._is_over = False
        self.thread = threading.Thread(target=self._run, args=(publisher, site.url), daemon=True)
        self.thread.start()
        self.thread.join(PATIENCE + NOTICE)
        self._is_over = True

    def _run(self, publisher: Callable[[str], Any], url: str) -> None:
        with publisher(url) as publish:
            for number, text in enumerate(MESSAGES):
                if number:
                    self._wait()
                try:
                    publish(text)
                except Exception as error:  # whatever it is, the caller sees it
                    saw = f"`{type(error).__name__}`"
                else:
                    saw = "ok"
                if self._is_over:
                    return
                self.saw.append(saw)

    def _wait(self) -> None:
        if self._between is not None:
            self._between()
        until = time.monotonic() + NOTICE
        while self._row.faults and not self._site.injected and time.monotonic() < until:
            time.sleep(0.001)
        with Wire(self._home):  # the end of a connection has been sent by the time that another one is open
            pass

    def cell(self, copies: list[int]) -> str:
        """What the caller saw of each message, and how many copies there are of it."""
        saw = [*self.saw, "waits", "-"][: len(MESSAGES)]
        return ", ".join(f"{word} ({count})" if word != "-" else "-" for word, count in zip(saw, copies, strict=True))


def declare(url: str) -> None:
    """Have the queue, empty, as Celery declares it."""
    with Connection(url) as connection:
        queue = Queue(QUEUE, Exchange(QUEUE), QUEUE, channel=connection.default_channel)
        queue.delete()
        queue.declare()


def counted(url: str, seconds: float = 0.0) -> list[int]:
    """How many copies of each message are in the queue; 0 where it is gone.

    Args:
        seconds: in which no more has to come.
    """
    bodies: list[bytes] = []
    until = time.monotonic() + seconds
    with Wire(url) as wire:
        wire.open_channel()
        while True:
            got = wire.call(1, commands.Basic.Get(queue=QUEUE, no_ack=True))
            if got.name == "Basic.GetOk":
                bodies.append(got.body or b"")
                until = time.monotonic() + seconds
            elif got.name == "Channel.Close" or time.monotonic() >= until:
                break
    return [sum(text.encode() in body for body in bodies) for text in MESSAGES]


def on_embedded(row: Row, publisher: Callable[[str], Any]) -> str:
    """A cell, on an embedded broker of its own."""
    with Broker() as broker:
        declare(broker.url)
        keep = row.restart
        between = None if keep is None else lambda: broker.restart(keep=keep, is_crash=True)
        # Connections are counted from here on: the publisher's is the first.
        broker.inject(Faults(*row.faults) if row.faults else None)
        attempt = Attempt(row, publisher, broker, broker.url, between)
        is_late = any(getattr(fault, "seconds", None) for fault in row.faults)
        made = attempt.cell(counted(broker.url, SETTLING if is_late else 0))
    attempt.thread.join()  # it finds no broker any more
    return made


def on_rabbitmq(row: Row, publisher: Callable[[str], Any], url: str) -> str | None:
    """A cell, on RabbitMQ behind the proxy; None for what that cannot do."""
    if row.restart is not None:
        return None
    declare(url)
    with FaultProxy(url, Faults(*row.faults)) as proxy:
        attempt = Attempt(row, publisher, proxy, url, None)
        made = attempt.cell(counted(url, SETTLING))
    attempt.thread.join()
    return made


def line(row: Row, rabbitmq: str | None = None) -> str:
    """A line of the table; with RabbitMQ's address a cell says where it differs there."""
    with ThreadPoolExecutor(len(PUBLISHERS)) as pool:  # most of them wait, each for a broker of its own
        cells = list(pool.map(lambda publisher: on_embedded(row, publisher), PUBLISHERS.values()))
    for place, publisher in enumerate(PUBLISHERS.values() if rabbitmq is not None else ()):
        there = on_rabbitmq(row, publisher, rabbitmq or "")
        if there not in (cells[place], None):
            cells[place] += f"; RabbitMQ: {there}"
    code = f" `{row.code}`" if row.code else ""
    return f"| {row.what}{code} | {' | '.join(cells)} |"


def table(rabbitmq: str) -> str:
    """The whole table."""
    head = f"| fault | {' | '.join(PUBLISHERS)} |\n| {'--- | ' * (len(PUBLISHERS) + 1)}".rstrip()
    lines = []
    for row in ROWS:
        lines.append(line(row, rabbitmq))
        print(lines[-1], flush=True)
    return "\n".join([head, *lines]) + "\n"


def main() -> None:
    """Write the table."""
    about = "Write the table in docs/explanation/faults.md anew, with the RabbitMQ that BROKER names."
    argparse.ArgumentParser(prog="python -m tools.faults_page", description=about).parse_args()
    with brokers.broker(brokers.choice()) as address:
        made = table(address.url)
    PAGE.write_text(TABLE.sub(lambda _: made, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
