"""`waybill broker`: what it prints, what it loads, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from tests.support.programs import call
from tests.support.wire import Wire
from waybill.cli.commands.broker import PASSWORD_VARIABLE

ALONE, BELOW_CELERY = ("waybill",), ("celery", "waybill")


def started(*options: str, program: tuple[str, ...] = ALONE, password: str = "") -> tuple[subprocess.Popen[str], str]:
    """The command in a process of its own, and its first line."""
    command = [sys.executable, "-u", "-m", *program, "broker", "--port", "0", *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, PASSWORD_VARIABLE: password},
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def url_in(line: str, user: str = "guest:guest") -> str:
    """The address to log in at."""
    found = re.search(r"amqp://(127\.0\.0\.1:\d+)/", line)
    assert found is not None, line
    return f"amqp://{user}@{found[1]}//"


def test_sigterm_closes_connections_with_320() -> None:
    process, line = started()
    assert "in memory" in line
    assert "for anything that must survive, use RabbitMQ" in line
    with Wire(url_in(line)) as wire:
        process.send_signal(signal.SIGTERM)
        assert wire.wait_for("Connection.Close").method.reply_code == 320
        wire.send(0, commands.Connection.CloseOk())
    assert process.wait(10) == 0
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("program", [ALONE, BELOW_CELERY], ids=" ".join)
def test_ctrl_c_ends_it_without_a_traceback(program: tuple[str, ...]) -> None:
    process, _ = started(program=program)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.read() == "waybill broker: closing connections\n"
    assert process.wait(10) == 0
    process.stdout.close()


def test_definitions_are_there_from_the_beginning(tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(
        json.dumps(
            {
                "exchanges": [
                    {"name": "x", "vhost": "/", "type": "fanout", "durable": True, "auto_delete": False,
                     "internal": False, "arguments": {}}
                ],
                "queues": [{"name": "q", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}],
                "bindings": [
                    {"source": "x", "vhost": "/", "destination": "q", "destination_type": "queue",
                     "routing_key": "", "arguments": {}}
                ],
            }
        )
    )  # fmt: skip
    process, line = started("--definitions", str(file))
    with Wire(url_in(line)) as wire:
        wire.open_channel()
        wire.publish(1, commands.Basic.Publish(exchange="x"), b"hi")
        assert wire.call(1, commands.Basic.Get(queue="q", no_ack=True)).body == b"hi"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert process.stdout is not None
    process.stdout.close()


def test_every_vhost_of_the_definitions_is_made_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    queues: list[dict[str, Any]] = [{"name": f"q-{name}", "vhost": name} for name in ("one", "two")]
    queues.append({"name": "log", "vhost": "two", "arguments": {"x-queue-type": "stream"}})
    exchanges = [{"name": name, "vhost": "two", "type": f"x-{name}"} for name in ("jms-topic", "lottery")]
    bindings = [{"source": "jms-topic", "vhost": "two", "destination": "q-two", "routing_key": "k"}]
    policies = [{"vhost": "one", "name": "p", "pattern": ".*", "definition": {"max-length": 1}}]
    shovels = [{"vhost": "one", "component": "shovel", "name": "s", "value": {}}]
    document = {"queues": queues, "policies": policies, "parameters": shovels}
    file.write_text(json.dumps({**document, "exchanges": exchanges, "bindings": bindings}))
    process, said = started("--definitions", str(file))
    assert said == (
        f"waybill broker: {file}: left out, this broker has none: parameters (1), "
        "exchange 'jms-topic' (type x-jms-topic), "
        "exchange 'lottery' (type x-lottery), queue 'log' (type stream)\n"
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    for name in ("one", "two"):
        with Wire(url_in(line).removesuffix("/") + name) as wire:
            wire.open_channel()
            assert wire.call(1, commands.Queue.Declare(queue=f"q-{name}", passive=True)).name == "Queue.DeclareOk"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stdout.close()


def test_a_user_of_its_own_and_no_password_in_the_output() -> None:
    process, line = started("--user", "me", password="s3cret")
    assert "s3cret" not in line
    with Wire(url_in(line, "me:s3cret")):
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert process.stdout is not None
    process.stdout.close()


BOUND = {"bindings": [{"source": "amq.topic", "vhost": "v", "destination": "q", "routing_key": "k"}]}
REFUSED = [
    (["--host", "0.0.0.0"], "to listen on 0.0.0.0, name a --user"),
    (["--user", "me"], "the user me needs a password"),
    (["--port", "99999"], "port 99999: expected 1 to 65535"),
    (["--port", "-1"], "port -1: expected 1 to 65535"),
    (["--definitions", "none.json"], "none.json"),
    (
        ["--definitions", "package.json"],
        "package.json: no definitions: it has no exchanges",
    ),
    (["--definitions", "bound.json"], "bound.json: 404 no queue 'q' in vhost 'v'"),
]


@pytest.mark.parametrize(("options", "expected"), REFUSED)
def test_refusals_are_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package.json").write_text(json.dumps({"name": "shop", "scripts": {}}))
    (tmp_path / "bound.json").write_text(json.dumps(BOUND))
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    result = call("waybill.cli", "broker", *options)
    assert (result.code, result.out) == (2, "")
    assert result.complaint.startswith("error: ")
    assert expected in result.complaint
