"""Which broker stands behind the URL: the embedded one, a container, or one that is there.

The first two live as long as the block.

Everything else speaks AMQP to the URL and doesn't know the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from amqp.exceptions import AMQPError, InvalidCommand, PreconditionFailed
from celery import Celery
from kombu import Connection

from waybill.broker import Broker
from waybill.errors import BrokerUnavailable, InputError

IMAGE = "rabbitmq:4-management"
AMQP_PORT = 5672
MANAGEMENT_PORT = 15672
# Plugins that the container gets, as docker-compose.yml gives them to its broker.
PLUGINS = ("rabbitmq_management", "rabbitmq_consistent_hash_exchange", "rabbitmq_recent_history_exchange")

EMBEDDED = "embedded"
DOCKER = "docker"
DEFAULT = EMBEDDED


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens.

    Attributes:
        url: `amqp://user:password@host:port/vhost`, the vhost percent-encoded.
        management_url: `http://user:password@host:port` of the management API; None where there is none.
    """

    url: str
    management_url: str | None

    @property
    def vhost(self) -> str:
        """The vhost's name; a URL without a path means `/`, as Kombu reads it."""
        return unquote(urlsplit(self.url).path.removeprefix("/")) or "/"

    def with_vhost(self, vhost: str) -> Address:
        """The same broker, another vhost."""
        return Address(urlunsplit(urlsplit(self.url)._replace(path="/" + quote(vhost, safe=""))), self.management_url)


def masked(url: str) -> str:
    """The URL as it may be shown: with `**` for the password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username}:**@{parts.netloc.rpartition('@')[2]}"))


def choice(environment: Mapping[str, str] = os.environ) -> str:
    """What the environment asks for: `WAYBILL_BROKER_URL`, else `BROKER`, else the default."""
    return environment.get("WAYBILL_BROKER_URL") or environment.get("BROKER") or DEFAULT


@contextmanager
def broker(which: str) -> Iterator[Address]:
    """A broker for the length of the block.

    Args:
        which: `embedded`, `docker`, or the URL of one that is there. The management API of the latter is expected at
            port 15672 of the same host unless `WAYBILL_MANAGEMENT_URL` says otherwise.

    Raises:
        InputError: `which` is none of them.
        BrokerUnavailable: no Docker engine answers, or the container doesn't come up.
    """
    if which == EMBEDDED:
        with Broker() as embedded:
            yield Address(existing(embedded.url).url, None)
    elif which == DOCKER:
        with _container() as address:
            yield address
    elif urlsplit(which).scheme in ("amqp", "pyamqp"):
        yield existing(which)
    else:
        raise InputError(
            f"broker {masked(which)!r}: expected `embedded`, `docker`, "
            "or a URL such as amqp://guest:guest@127.0.0.1:5672//"
        )


def existing(url: str) -> Address:
    """The address of a broker that is there; whether it answers shows when somebody connects."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise InputError(f"broker {masked(url)!r}: {error}") from error
    if not parts.hostname:
        raise InputError(
            f"broker {masked(url)!r}: no host, expected amqp://user:password@host:{port or AMQP_PORT}/vhost"
        )
    path = "" if parts.path in ("", "/", "//") else parts.path
    user = f"{parts.username or 'guest'}:{parts.password or 'guest'}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    management = os.environ.get("WAYBILL_MANAGEMENT_URL") or f"http://{user}@{host}:{MANAGEMENT_PORT}"
    return Address(urlunsplit(("amqp", f"{user}@{host}:{port or AMQP_PORT}", path or "/%2F", "", "")), management)


def point(app: Celery, url: str) -> None:
    """Let the application use another broker from now on.

    Celery keeps its pools of connections for the life of the application, so they are dropped, as it does in a new
    process.
    """
    app.conf.broker_url = url
    app._pool = app.amqp._producer_pool = None


def connect(app: Celery) -> Connection:
    """A connection to the application's broker, open and with confirmed publishing whatever the application does.

    Raises:
        BrokerUnavailable: nothing answers there, or it refuses us.
    """
    connection: Connection = app.connection_for_write(transport_options={"confirm_publish": True})
    try:
        connection.connect()
    except (OSError, AMQPError) as error:
        shown = masked(app.conf.broker_write_url or app.conf.broker_url)
        raise BrokerUnavailable(
            f"no broker at {shown}: {error}; start one with `docker compose up` or `waybill broker`, "
            "or name another with BROKER=amqp://..."
        ) from error
    return connection


def missing_exchange_types(connection: Connection, types: Iterable[str]) -> set[str]:
    """The exchange types, of these, that the broker doesn't know: those of plugins that are not enabled.

    RabbitMQ has no question for it over AMQP, so an exchange of each type is declared and deleted.
    """
    return {kind for kind in types if not _knows(connection, kind)}


def _knows(connection: Connection, exchange_type: str) -> bool:
    name = f"waybill.probe.{exchange_type}"
    # A connection of its own: before 4.0 the refusal (503) closes the whole connection, since then (406) the channel.
    with connection.clone() as probe:
        try:
            channel = probe.channel()
            channel.exchange_declare(name, exchange_type, durable=False, auto_delete=True)
            channel.exchange_delete(name)
        except (PreconditionFailed, InvalidCommand):
            return False
    return True


@contextmanager
def _container() -> Iterator[Address]:
    try:
        from docker.errors import DockerException
        from testcontainers.community.rabbitmq import RabbitMqContainer
    except ImportError as error:
        raise BrokerUnavailable(
            f"a broker in a container needs `pip install waybill[docker]` ({error.name} is missing)"
        ) from error
    try:
        container = RabbitMqContainer(IMAGE).with_copy_into_container(
            f"[{','.join(PLUGINS)}].".encode(), "/etc/rabbitmq/enabled_plugins"
        )
        # Loopback only: guest/guest is nobody else's business.
        container.ports = {AMQP_PORT: ("127.0.0.1", None), MANAGEMENT_PORT: ("127.0.0.1", None)}
        container.start()
    except DockerException as error:
        reason = str(error).splitlines()[0]
        raise BrokerUnavailable(
            f"no broker in a container: {reason}; start Docker, or take the embedded broker with BROKER=embedded"
        ) from error
    try:
        host = container.get_container_host_ip()
        yield Address(
            f"amqp://guest:guest@{host}:{container.get_exposed_port(AMQP_PORT)}/%2F",
            f"http://guest:guest@{host}:{container.get_exposed_port(MANAGEMENT_PORT)}",
        )
    finally:
        container.stop()
