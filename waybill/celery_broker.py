"""The broker of a Celery application, as its settings name it. Nobody is connected to here."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Connection

from waybill.errors import InputError
from waybill.topology import DEFAULT_VHOST


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
        # Behind ` as ` stands what is no port: a part of a password, perhaps.
        text = str(error).partition(" as ")[0]
        raise InputError(f"the application's broker: {type(error).__name__}: {text}") from error


def vhost_of(app: Celery) -> str:
    """The vhost of the application's broker.

    Raises:
        InputError: as `broker_of`.
    """
    return broker_of(app).virtual_host or DEFAULT_VHOST
