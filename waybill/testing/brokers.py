"""Which broker stands behind the URL: the embedded one, a container, or one that is there.

The first two run as long as the block.

Everything else speaks AMQP to the URL and doesn't know the difference.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from amqp.exceptions import AccessRefused, AMQPError, InvalidCommand, NotAllowed, PreconditionFailed
from celery import Celery
from kombu import Connection
from kombu.transport import virtual

from waybill.broker import Broker
from waybill.broker.management.serving import is_installed
from waybill.celery_app.broker_url import broker_of, masked, unusable, url_of
from waybill.celery_app.installed import settings_overridden
from waybill.celery_app.private import drop_pools
from waybill.errors import BrokerUnavailable, InputError

IMAGE = "rabbitmq:4-management"
AMQP_PORT = 5672
MANAGEMENT_PORT = 15672
# Plugins that the container gets, as docker-compose.yml gives them to its broker.
PLUGINS = ("rabbitmq_management", "rabbitmq_consistent_hash_exchange", "rabbitmq_recent_history_exchange")

# By these a user of testcontainers says how its containers are reached.
CONNECTION_VARIABLES = ("TESTCONTAINERS_CONNECTION_MODE", "TESTCONTAINERS_HOST_OVERRIDE", "TC_HOST")

SILENCE = 30.0
"""Seconds in which an answer has to begin: on a link that has gone silent, nobody would wait for ever."""

EMBEDDED = "embedded"
DOCKER = "docker"
DEFAULT = EMBEDDED

# Default ports of AMQP and of the management API, plain and with TLS.
PORTS = {"amqp": (AMQP_PORT, MANAGEMENT_PORT), "pyamqp": (AMQP_PORT, MANAGEMENT_PORT), "amqps": (5671, 15671)}

# Kombu's virtual transport on Redis: the showcase runs on it to show what holds there. Its databases are numbers.
REDIS = ("redis", "rediss")
REDIS_DATABASE = "/0"

# Exchange types that every AMQP broker has.
BUILT_IN_TYPES = frozenset({"direct", "topic", "fanout", "headers"})

# Celery takes each of these settings from the environment first (celery/app/utils.py, Settings).
BROKER_VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
BROKER_SETTINGS = ("broker_url", "broker_read_url", "broker_write_url")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens.

    Attributes:
        url: `amqp://user:password@host:port/vhost`, the vhost percent-encoded.
        management_url: `http://user:password@host:port` of the management API; None where there is none.
        is_embedded: it is the embedded broker, in this process.
    """

    url: str
    management_url: str | None
    is_embedded: bool = False

    def __repr__(self) -> str:
        """Without passwords: pytest prints the fixtures of a test that fails."""
        return f"Address({masked(self.url)!r}, {masked(self.management_url or '')!r})"

    @property
    def has_vhosts(self) -> bool:
        """False on Redis, which has numbered databases."""
        return urlsplit(self.url).scheme not in REDIS

    @property
    def vhost(self) -> str:
        """The vhost's name; a URL without a path means `/`, as Kombu reads it."""
        return unquote(urlsplit(self.url).path.removeprefix("/")) or "/"

    def with_vhost(self, vhost: str) -> Address:
        """The same broker, another vhost."""
        return replace(self, url=urlunsplit(urlsplit(self.url)._replace(path="/" + quote(vhost, safe=""))))


def choice(environment: Mapping[str, str] = os.environ) -> str:
    """What the environment asks for: `WAYBILL_BROKER_URL`, else `BROKER`, else the default."""
    return environment.get("WAYBILL_BROKER_URL") or environment.get("BROKER") or DEFAULT


@contextmanager
def broker(which: str) -> Iterator[Address]:
    """A broker for the length of the block.

    Args:
        which: `embedded`, `docker`, or the URL of one that is there. The management API of the latter is expected at
            port 15672 of the same host unless `WAYBILL_MANAGEMENT_URL` says otherwise; the embedded broker has one
            where the extra `live` is installed.

    Raises:
        InputError: `which` is none of them.
        BrokerUnavailable: no Docker engine answers, or the container doesn't come up.
    """
    if which == EMBEDDED:
        with Broker(management=is_installed()) as embedded:
            yield Address(embedded.url, embedded.management_url, is_embedded=True)
    elif which == DOCKER:
        with _container() as address:
            yield address
    elif _split(which).scheme in (*PORTS, *REDIS):
        yield existing(which)
    else:
        raise InputError(
            f"broker {masked(which)!r}: expected `embedded`, `docker`, "
            "or a URL such as amqp://guest:guest@127.0.0.1:5672//"
        )


def existing(url: str) -> Address:
    """The address of a broker that is there; whether it answers shows when somebody connects.

    Raises:
        InputError: it isn't the URL of one broker.
    """
    parts = _split(url)
    if ";" in url:
        raise InputError(f"broker {masked(url)!r}: expected one URL, got a list (a `;` within a URL is %3B)")
    if "@" in parts.path + parts.query or parts.fragment:
        raise InputError(
            f"broker {masked(url)!r}: expected `/`, `?`, `#` and `@` in a user, password or vhost as %2F, %3F, %23, %40"
        )
    try:
        port = parts.port
    except ValueError as error:  # it tells what stands for the port: a part of a password, perhaps
        raise InputError(f"broker {masked(url)!r}: no port, expected a number from 0 to 65535") from error
    if not parts.hostname:
        raise InputError(
            f"broker {masked(url)!r}: no host, expected amqp://user:password@host:{port or AMQP_PORT}/vhost"
        )
    if parts.scheme in REDIS:
        database = REDIS_DATABASE if parts.path in ("", "/") else parts.path
        if not database[1:].isdecimal():
            raise InputError(f"broker {masked(url)!r}: expected the number of a database, got {database[1:]!r}")
        return Address(urlunsplit((parts.scheme, parts.netloc, database, parts.query, "")), None)
    amqp_port, management_port = PORTS.get(parts.scheme, PORTS["amqp"])
    is_tls = parts.scheme == "amqps"
    path = "" if parts.path in ("", "/", "//") else parts.path
    user = f"{parts.username or 'guest'}:{parts.password or 'guest'}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    management = os.environ.get("WAYBILL_MANAGEMENT_URL") or f"http{'s' * is_tls}://{user}@{host}:{management_port}"
    scheme = "amqps" if is_tls else "amqp"
    return Address(
        urlunsplit((scheme, f"{user}@{host}:{port or amqp_port}", path or "/%2F", parts.query, "")), management
    )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InputError(f"broker {masked(url)!r}: not a URL, expected amqp://user:password@host:port/vhost") from error


def environment(url: str) -> dict[str, str]:
    """The variables with which a worker uses this broker, whatever URL its application has in its code."""
    return dict.fromkeys(("WAYBILL_BROKER_URL", *BROKER_VARIABLES), url)


@contextmanager
def use_broker(app: Celery, url: str) -> Iterator[None]:
    """Let the application use another broker within the block, whatever its settings and Celery's environment say.

    Celery keeps its pools of connections for the life of the application, so they are dropped at both ends of the
    block, as it does in a new process.

    Args:
        url: `amqp://user:password@host:port/vhost`.

    Example:
        >>> from celery import Celery
        >>> from waybill import Broker, use_broker
        >>> app = Celery("shop", broker="amqp://guest:guest@production//")
        >>> with Broker() as broker, use_broker(app, broker.url):
        ...     app.conf.broker_url == broker.url
        True
        >>> app.conf.broker_url
        'amqp://guest:guest@production//'
    """
    variables = {name: os.environ[name] for name in BROKER_VARIABLES if name in os.environ}
    with settings_overridden(app, dict.fromkeys(BROKER_SETTINGS, url)):
        os.environ.update(dict.fromkeys(variables, url))
        drop_pools(app)
        try:
            yield
        finally:
            os.environ.update(variables)
            drop_pools(app)


def connect(app: Celery) -> Connection:
    """A connection to the application's broker, open and with confirmed publishing whatever the application does.

    Raises:
        BrokerUnavailable: nothing answers there, or it refuses us.
        InputError: as `broker_of` and `open_connection`.
    """
    silence = {"read_timeout": SILENCE, "write_timeout": SILENCE}
    connection: Connection = broker_of(app, transport_options={"confirm_publish": True, **silence})
    open_connection(connection, url_of(app))
    if isinstance(connection.transport, virtual.Transport):
        _introduce(app, connection)
    return connection


def open_connection(connection: Connection, url: str) -> None:
    """Connect.

    Args:
        url: to be named, without its password, when that fails.

    Raises:
        BrokerUnavailable: nothing answers there, or it refuses us.
        InputError: Kombu can do nothing with one of the URLs; of a list, it comes to the others when one fails.
    """
    failures = connection.connection_errors
    try:
        connection.connect()
    except (OSError, AMQPError, *failures) as error:
        reason = str(error).rstrip(".")
        if isinstance(error, (AccessRefused, NotAllowed)):
            raise BrokerUnavailable(
                f"the broker at {masked(url)} refuses us: {reason}; look at the user, the password and the vhost"
            ) from error
        raise BrokerUnavailable(
            f"no broker at {masked(url)}: {reason}; start one, such as `waybill broker`, or name another"
        ) from error
    except Exception as error:
        raise unusable(url, error) from error


def _introduce(app: Celery, connection: Connection) -> None:
    """Declare the application's exchanges on this very connection.

    Kombu's virtual transports keep the type of an exchange nowhere else: to a connection that hasn't declared it every
    exchange is a direct one.
    """
    known = connection.transport.implements.exchange_type
    with connection.channel() as channel:
        for exchange in {queue.exchange for queue in app.amqp.queues.values() if queue.exchange.type in known}:
            exchange(channel).declare()


def missing_exchange_types(connection: Connection, types: Iterable[str]) -> set[str]:
    """The exchange types, of these, that the broker doesn't know: those of plugins that are not enabled.

    RabbitMQ has no question for it over AMQP, so an exchange of each type is declared and deleted. Kombu's virtual
    transports take any declaration, and say themselves what they can route.
    """
    transport = connection.transport
    if transport.driver_type != "amqp":
        return set(types).difference(transport.implements.exchange_type)
    return {kind for kind in types if kind not in BUILT_IN_TYPES and not _knows(connection, kind)}


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of testcontainers' own, which pytest may make an error
            from docker.errors import DockerException
            from testcontainers.community.rabbitmq import RabbitMqContainer
            from testcontainers.core.config import testcontainers_config
            from testcontainers.core.docker_client import ConnectionMode
            from testcontainers.core.utils import inside_container
    except ImportError as error:
        raise BrokerUnavailable(
            f"a broker in a container needs `pip install waybill[docker]` ({error.name} is missing)"
        ) from error
    # From inside a container the loopback ports below belong to another machine; the bridge's addresses can be reached.
    is_inside = inside_container() and not any(os.environ.get(name) for name in CONNECTION_VARIABLES)
    if is_inside:
        testcontainers_config.connection_mode_override = ConnectionMode.bridge_ip
    try:
        container = RabbitMqContainer(IMAGE).with_copy_into_container(
            f"[{','.join(PLUGINS)}].".encode(), "/etc/rabbitmq/enabled_plugins"
        )
        # Loopback only: guest/guest is nobody else's business.
        container.ports = {AMQP_PORT: ("127.0.0.1", None), MANAGEMENT_PORT: ("127.0.0.1", None)}
        try:
            container.start()
        except BaseException:  # a Ctrl-C too: it may be running
            container.stop()
            raise
    except (DockerException, TimeoutError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if is_inside and isinstance(error, TimeoutError):
            reason += " (this is a container itself: TESTCONTAINERS_HOST_OVERRIDE names the host of its ports)"
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
