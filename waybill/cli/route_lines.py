"""Route a file of messages: one JSON object a line in, one out, in order, as they come."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
from rich import progress

from waybill.celery_app.publication import check_names
from waybill.cli.terminal import err
from waybill.errors import EXIT_FINDINGS, EXIT_OK, InputError, TopologyError
from waybill.routing import Router


def route_lines(router: Router, path: Path) -> int:
    """Print, for each message of the file, the queues that it reaches.

    A line holds `exchange`, `routing_key` and `headers`, each of which may be missing. Out comes `queues` and
    `unroutable`, or, where RabbitMQ would refuse the publication, no queue and its sentence as `error`.

    Returns:
        The exit code: 1 when a publication was refused.

    Raises:
        InputError: the file can't be read, or a line is not such an object.
    """
    code = EXIT_OK
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            answer = _route(router, _read(line, f"{path}:{number}"))
            if "error" in answer:
                code = EXIT_FINDINGS
            click.echo(json.dumps(answer))
    return code


def _route(router: Router, message: dict[str, Any]) -> dict[str, Any]:
    try:
        queues = router.route_key(
            message.get("exchange", ""), message.get("routing_key", ""), message.get("headers") or {}
        )
    except TopologyError as error:
        return {"queues": [], "unroutable": True, "error": f"{error.reply_code} {error}"}
    return {"queues": list(queues), "unroutable": not queues}


# Field -> what it has to be.
_FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "exchange": ((str,), "a string"),
    "routing_key": ((str,), "a string"),
    "headers": ((dict, type(None)), "an object"),
}


def _read(line: bytes, where: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from error
    if not isinstance(message, dict):
        raise InputError(f"{where}: expected an object with exchange, routing_key and headers, got {line[:40]!r}")
    for field, (kind, expected) in _FIELDS.items():
        if field in message and not isinstance(message[field], kind):
            raise InputError(f"{where}: {field}: expected {expected}, got {message[field]!r}")
    try:
        check_names(message.get("exchange", ""), message.get("routing_key", ""), message.get("headers") or {})
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return message


def _open(path: Path) -> BinaryIO:
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        # On a terminal with a bar; it would run into answers that go to the same terminal.
        if err.is_terminal and not sys.stdout.isatty():
            return cast("BinaryIO", progress.open(path, "rb", description="routing", console=err, transient=True))
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
