"""The broker of a Celery application, as its settings name it. Nobody is connected to here."""

from __future__ import annotations

import re
from typing import Any

from celery import Celery
from kombu import Connection

from waybill.errors import InputError
from waybill.topology import DEFAULT_VHOST

# A list of URLs is separated by `;`, as Kombu has it. The password is greedy: up to the last `@`, whatever is in it.
_NEXT_URL = re.compile(r";(?=[\w+.-]+://)")
_PASSWORD = re.compile(r"^((?:[\w+.-]+://)?+[^:]*:).*(?=@)", re.DOTALL)


def masked(url: str) -> str:
    """The URL, or `;` list of them, as it may be shown: with `**` for the password.

    It need not be a URL at all: of what is between the first `:` and the last `@`, nothing is ever shown.
    """
    return ";".join(_PASSWORD.sub(r"\1**", one) for one in _NEXT_URL.split(url))


def url_of(app: Celery) -> str:
    """The URL, or `;` list of them, to which the application publishes, as its settings or the environment have it."""
    urls = app.conf.broker_write_url
    return urls if isinstance(urls, str) else ";".join(map(str, urls or ()))


def broker_of(app: Celery, **options: Any) -> Connection:
    """The application's broker, not connected; Kombu imports the code for its kind.

    Args:
        options: as for `connection_for_write`.

    Raises:
        InputError: its URL can't be read, there is no such kind of broker, or the package for it isn't installed.
    """
    try:
        return app.connection_for_write(**options)
    except Exception as error:
        raise unusable(url_of(app), error) from error


def unusable(url: str, error: Exception) -> InputError:
    """The one line for a URL with which Kombu can do nothing.

    What a `ValueError` says is not repeated: it quotes the URL's parts, and a password may be anywhere in them.
    """
    if isinstance(error, ValueError):
        expected = "amqp://user:password@host:5672/vhost or redis://:password@host:6379/0"
        return InputError(f"the application's broker {masked(url)!r}: not a URL, expected one such as {expected}")
    return InputError(f"the application's broker {masked(url)!r}: {type(error).__name__}: {error}")


def vhost_of(app: Celery) -> str:
    """The vhost of the application's broker.

    Raises:
        InputError: as `broker_of`.
    """
    return broker_of(app).virtual_host or DEFAULT_VHOST
