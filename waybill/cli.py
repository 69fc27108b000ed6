"""The command line: `waybill ...`, and the same as `celery -A proj waybill ...`."""

from __future__ import annotations

import click

from waybill import terminal


@click.group()
def waybill() -> None:
    """Know where every Celery task goes on RabbitMQ."""


celery_command = waybill


def program() -> None:
    """The console script."""
    terminal.run(waybill, name="waybill")
