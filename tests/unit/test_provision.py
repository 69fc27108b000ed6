"""Which broker stands behind a URL: what is shown of it, what is passed on, and who has to use it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery

from waybill.celery_app.broker_url import masked
from waybill.errors import BrokerUnavailable, InputError
from waybill.rabbitmq.management import Management
from waybill.testing import brokers

# URL -> what is shown of it
MASKED: tuple[tuple[str, str], ...] = (
    ("amqp://guest:s3cret@127.0.0.1:5672//", "amqp://guest:**@127.0.0.1:5672//"),
    ("amqp://guest:p@ss/s3cret@127.0.0.1", "amqp://guest:**@127.0.0.1"),
    ("amqp://guest:p#ss?s3cret@127.0.0.1", "amqp://guest:**@127.0.0.1"),
    ("amqp://guest:s3;cret@127.0.0.1", "amqp://guest:**@127.0.0.1"),
    ("amqp://guest:a:b@127.0.0.1:5672", "amqp://guest:**@127.0.0.1:5672"),
    ("amqp://gu@est:s3cret@127.0.0.1", "amqp://gu@est:**@127.0.0.1"),
    ("amqp://gu[est:s3cret@127.0.0.1", "amqp://gu[est:**@127.0.0.1"),
    ("amqp://:s3cret@127.0.0.1", "amqp://:**@127.0.0.1"),
    ("guest:s3cret@h:5672", "guest:**@h:5672"),
    ("amqp:guest:s3cret@h", "amqp:**@h"),
    ("amqp://a:s3cret@h1//;amqp://b:s3cret@h2:1//", "amqp://a:**@h1//;amqp://b:**@h2:1//"),
    ("amqp://h1:5672;amqp://b:s3cret@h2", "amqp://h1:5672;amqp://b:**@h2"),
    ("a:s3cret@h1;b:s3cret@h2", "a:**@h2"),
    ("amqp://guest@127.0.0.1:5672/v", "amqp://guest@127.0.0.1:5672/v"),
    ("amqp://[::1]:5672//", "amqp://[::1]:5672//"),
    ("embedded", "embedded"),
    ("", ""),
)


@pytest.mark.parametrize(("url", "shown"), MASKED)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


# URL -> what the one line says
REFUSED: tuple[tuple[str, str], ...] = (
    ("amqp://gu[est:s3cret@127.0.0.1", "not a URL"),
    ("amqp://guest:s3cret/@127.0.0.1", "as %2F"),
    ("amqp://guest:p@ss/s3cret@127.0.0.1", "as %2F"),
    ("amqp://guest:s3cret#@127.0.0.1", "as %2F"),
    ("amqp://guest:s3cret?@127.0.0.1", "as %2F"),
    ("amqp://guest:x@127.0.0.1:s3cret", "expected a number from 0 to 65535"),
    ("amqp://guest:[s3cret]@127.0.0.1", "not a URL"),
    ("amqp://guest:s3cret℀@127.0.0.1", "not a URL"),
    ("amqp://guest:s3cret@127.0.0.1:99999", "expected a number from 0 to 65535"),
    ("amqp://a:s3cret@h1;amqp://b:s3cret@h2", "got a list"),
    ("amqp://guest:s3cret@", "no host"),
    ("redis://:s3cret@h/news", "expected the number of a database, got 'news'"),
    ("guest:s3cret@h:5672", "expected `embedded`, `docker`, or a URL"),
)


@pytest.mark.parametrize(("url", "expected"), REFUSED)
def test_what_is_no_broker_is_one_line(url: str, expected: str) -> None:
    with pytest.raises(InputError) as caught, brokers.broker(url):
        pass
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value).replace("127.0.0.1:s3cret", "")


# URL -> the address's URL and that of its management API
EXISTING: tuple[tuple[str, str, str | None], ...] = (
    ("amqp://h", "amqp://guest:guest@h:5672/%2F", "http://guest:guest@h:15672"),
    ("pyamqp://a:p%40ss@h:1//", "amqp://a:p%40ss@h:1/%2F", "http://a:p%40ss@h:15672"),
    ("amqp://[::1]/v?heartbeat=5", "amqp://guest:guest@[::1]:5672/v?heartbeat=5", "http://guest:guest@[::1]:15672"),
    ("amqps://h/v", "amqps://guest:guest@h:5671/v", "https://guest:guest@h:15671"),
    ("redis://h", "redis://h/0", None),
    ("redis://:s3cret@h:6380/7?ssl=1", "redis://:s3cret@h:6380/7?ssl=1", None),
)


@pytest.mark.parametrize(("url", "expected", "management"), EXISTING)
def test_a_broker_that_is_there(
    monkeypatch: pytest.MonkeyPatch, url: str, expected: str, management: str | None
) -> None:
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    with brokers.broker(url) as address:
        assert address == brokers.Address(expected, management)
        assert address.with_vhost("w").vhost == "w"


OTHER, HERE = "amqp://nobody@127.0.0.1:1//", "amqp://guest:guest@127.0.0.1:2//"


def _with(**settings: Any) -> Callable[[], Celery]:
    def make() -> Celery:
        app = Celery("pointed", set_as_current=False)
        app.conf.update(settings)
        return app

    return make


def _from_object(namespace: str | None, **settings: Any) -> Callable[[], Celery]:
    def make() -> Celery:
        app = Celery("pointed", set_as_current=False)
        app.config_from_object(settings, namespace=namespace)
        return app

    return make


# how the application got its other broker: its making, the environment
SETTINGS: tuple[tuple[Callable[[], Celery], dict[str, str]], ...] = (
    (lambda: Celery("pointed", broker=OTHER, set_as_current=False), {}),
    (_with(broker_url=OTHER), {}),
    (_with(broker_url=[OTHER, OTHER]), {}),
    (_with(broker_read_url=OTHER, broker_write_url=OTHER), {}),
    (_from_object(None, BROKER_URL=OTHER), {}),
    (_from_object("CELERY", CELERY_BROKER_URL=OTHER, CELERY_BROKER_READ_URL=OTHER), {}),
    (_with(), {"CELERY_BROKER_URL": OTHER}),
    (_with(), {"CELERY_BROKER_READ_URL": OTHER}),
    (_with(), {"CELERY_BROKER_WRITE_URL": OTHER}),
)


@pytest.mark.parametrize(("make", "variables"), SETTINGS)
def test_use_broker_wins_and_is_undone(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Celery], variables: dict[str, str]
) -> None:
    for name in brokers.BROKER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = make()

    def used() -> list[Any]:
        connections = [app.connection_for_read(), app.connection_for_write(), app.connection(), app.pool.connection]
        urls = [app.conf.broker_url, app.conf.broker_read_url, app.conf.broker_write_url]
        return urls + [connection.as_uri(include_password=True) for connection in connections]

    before, environment, set_before = used(), dict(os.environ), dict(app.conf.changes)
    with suppress(KeyError), brokers.use_broker(app, HERE):
        assert set(used()) == {HERE}
        raise KeyError
    assert used() == before
    assert dict(os.environ) == environment
    assert dict(app.conf.changes) == set_before


# what start() raises -> what comes out
STARTS: tuple[tuple[BaseException, type[BaseException], str], ...] = (
    (
        TimeoutError("Wait time (120s) exceeded\nfor ..."),
        BrokerUnavailable,
        r"^no broker in a container: Wait time \S+ ",
    ),
    (TimeoutError(), BrokerUnavailable, "no broker in a container: TimeoutError; "),
    (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
)


@pytest.mark.parametrize(("raised", "expected", "message"), STARTS)
def test_a_container_that_does_not_come_up_is_stopped(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, expected: type[BaseException], message: str
) -> None:
    stopped = []

    class Container:
        def __init__(self, image: str) -> None: ...

        def with_copy_into_container(self, *_: object) -> Container:
            return self

        def start(self) -> None:
            raise raised

        def stop(self) -> None:
            stopped.append(self)

    monkeypatch.setattr("testcontainers.community.rabbitmq.RabbitMqContainer", Container)
    with pytest.raises(expected, match=message) as caught, brokers.broker(brokers.DOCKER):
        pass
    assert len(stopped) == 1
    assert "\n" not in str(caught.value)


# management URL -> where it asks, and as whom
MANAGEMENT: tuple[tuple[str, str, tuple[str, str]], ...] = (
    ("http://a:p%40ss%2F@h:1", "http://h:1", ("a", "p@ss/")),
    ("http://h", "http://h:15672", ("guest", "guest")),
    ("https://us%3Aer:x@[::1]", "https://[::1]:15671", ("us:er", "x")),
    ("http://h:1/", "http://h:1", ("guest", "guest")),
    ("http://a:x@h/rabbit/one/", "http://h:15672/rabbit/one", ("a", "x")),
)


@pytest.mark.parametrize(("url", "base", "credentials"), MANAGEMENT)
def test_a_management_url(monkeypatch: pytest.MonkeyPatch, url: str, base: str, credentials: tuple[str, str]) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("waybill.rabbitmq.management.httpx.Client", lambda **arguments: given.update(arguments))
    Management(url)
    assert (given["base_url"], given["auth"]) == (base, credentials)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:15672",
        "amqp://a:s3cret@h",
        "http://a:s3cret@",
        "http://a:p/s3cret@h",
        "http://a:12/s3cret@h",
        "http://s3cret:12#34@h",
        "http://s3cret:12?34@h",
        "http://a:x@h:1?s3cret",
        "http://a:x@h:1/rabbit#s3cret",
        "http://[s3cret",
        "http://a\x01:s3cret@h\x01",
    ],
)
def test_a_management_url_that_is_none(url: str) -> None:
    with pytest.raises(InputError, match="expected http://user:password@host:15672") as caught:
        Management(url)
    assert "s3cret" not in str(caught.value)
