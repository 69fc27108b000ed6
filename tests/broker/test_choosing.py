"""Exchanges that choose one of their queues: on the embedded broker and on RabbitMQ, where the plugin is enabled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pytest

from tests.support.brokers import BROKERS, broker_url, fresh
from tests.support.live import LiveBroker

# Of `rabbitmq_random_exchange`, which the tests' RabbitMQ may lack; the others are RabbitMQ's own since 4.3 or 4.0.
FROM_PLUGIN = "x-random"
SHARED = 60
"""Messages to three queues: that one of them gets none happens once in ten thousand million times."""

Publish = Callable[..., dict[str, int]]


@pytest.fixture(params=BROKERS)
def channel(request: pytest.FixtureRequest) -> Iterator[Any]:
    for url in broker_url(request):
        with LiveBroker(url) as broker:
            opened = broker._connection.channel()
            opened.confirm_select()
            yield opened


@pytest.fixture
def publish(channel: Any, request: pytest.FixtureRequest) -> Publish:
    """Publish so often to an exchange of this type with the queues a, b and c, and say how many each has got."""
    exchange, queues = fresh("x"), {name: fresh() for name in "abc"}

    def start(kind: str) -> None:
        try:
            channel.exchange_declare(exchange, kind, auto_delete=False)
        except amqp.exceptions.PreconditionFailed:
            if kind != FROM_PLUGIN:
                raise
            pytest.skip("this RabbitMQ has no rabbitmq_random_exchange")
        request.addfinalizer(lambda: channel.exchange_delete(exchange))
        for name in "cab":
            channel.queue_declare(queues[name], exclusive=True, auto_delete=False)
            channel.queue_bind(queues[name], exchange, "" if kind == "x-local-random" else "k")

    def send(kind: str, count: int, key: str = "k", **headers: Any) -> dict[str, int]:
        if kind not in started:
            start(kind)
            started.append(kind)
        for _ in range(count):
            channel.basic_publish_confirm(amqp.Message("", application_headers=headers), exchange, key)
        return {name: held for name, queue in queues.items() if (held := channel.queue_purge(queue))}

    started: list[str] = []
    return send


@pytest.mark.parametrize("kind", ["x-random", "x-local-random"])
def test_one_copy_to_one_of_all_queues(publish: Publish, kind: str) -> None:
    found = publish(kind, SHARED, "another key")
    assert sorted(found) == ["a", "b", "c"]
    assert sum(found.values()) == SHARED


@pytest.mark.parametrize("kind", ["x-random", "x-local-random", "x-modulus-hash"])
def test_copies_of_a_message_are_one_choice(publish: Publish, kind: str) -> None:
    assert sum(publish(kind, 10, CC=["a", "b"]).values()) == 10


def test_one_key_goes_one_way(publish: Publish) -> None:
    assert list(publish("x-modulus-hash", 5).values()) == [5]
    ways = [tuple(publish("x-modulus-hash", 1, str(number))) for number in range(40)]
    assert set(ways) == {("a",), ("b",), ("c",)}
