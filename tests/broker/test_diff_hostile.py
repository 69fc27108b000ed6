"""A management API that is broken, or is none: one clear line, exit code 2, and never the password."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.hostile_api import HOSTILE, SECRET, Answer, Hostile, raw, standing, whole
from tests.support.programs import PATIENCE, Result, call
from waybill.errors import NotFound
from waybill.rabbitmq import management
from waybill.rabbitmq.management import LiveConsumer, Management

PACKED = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(SECRET)}\r\n\r\n{SECRET}".encode()
MORE = (
    Hostile("to itself", whole("301 Moved Permanently", "", "Location: /api/overview"), "with 301 Moved Permanently"),
    Hostile("overloaded", whole("503 Service Unavailable", SECRET), "with 503 Service Unavailable"),
    Hostile("half of the JSON", whole("200 OK", '{"rabbitmq_version": "4.3'), "with something that is not JSON"),
    Hostile("packed badly", raw(PACKED), "does not answer"),
    Hostile("AMQP", raw(b"AMQP\x00\x00\x09\x01"), "does not answer"),
)
ALL = (*HOSTILE, *MORE)
LOOK, FIX = (), ("--json", "--fix", "bindings", "--yes")


def diff(*arguments: str) -> Result:
    return call("waybill.cli", "-A", "tests.support.apps.diffed", "diff", *arguments)


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those that are slow: the time that they get is over soon."""
    monkeypatch.setattr(management, "TIMEOUT", 0.5)
    monkeypatch.setattr(management, "WHOLE_ANSWER", 0.5)


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("arguments", [LOOK, FIX], ids=["look", "fix"])
@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
def test_a_broken_api(one: Hostile, arguments: tuple[str, ...]) -> None:
    with standing(one.answer) as url:
        result = diff("--management", url, *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.complaint.startswith("error: ")
    assert one.said in result.complaint
    assert SECRET not in result.err


@pytest.mark.parametrize("one", HOSTILE[:3], ids=[one.name for one in HOSTILE[:3]])
def test_declare_says_the_same(one: Hostile) -> None:
    with standing(one.answer) as url:
        result = call("waybill.cli", "-A", "tests.support.apps.diffed", "declare", "--management", url)
    assert (result.code, result.out) == (2, "")
    assert one.said in result.complaint
    assert SECRET not in result.err


# What a page of queues may hold instead of RabbitMQ's rows.
ROWS: tuple[tuple[Answer, str], ...] = (
    (whole("200 OK", '[{"name": 5}]'), "name 5: expected str, got int"),
    (whole("200 OK", '[{"durable": "yes"}]'), "durable 'yes': expected bool, got str"),
    (whole("200 OK", '[{"arguments": [1]}]'), r"arguments \[1\]: expected dict, got list"),
    (whole("200 OK", '[{"name": "q", "messages": null}]'), "messages None: expected int, got NoneType"),
)


@pytest.mark.parametrize(("answer", "said"), ROWS)
def test_a_row_of_another_kind(answer: Answer, said: str) -> None:
    """`live_facts` makes one line of it."""
    with standing(answer) as url, Management(url) as asked, pytest.raises(TypeError, match=said):
        asked.queues()


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found"])
def test_deprecated_features_that_are_not_told(status: str) -> None:
    with standing(whole(status)) as url, Management(url) as asked:
        assert asked.deprecated_features() == {}


def test_a_vhost_that_is_not_shown() -> None:
    with (
        standing(whole("200 OK", '[{"name": "other"}]')) as url,
        Management(url, "sh/op") as asked,
        pytest.raises(NotFound, match="shows this user no vhost 'sh/op'"),
    ):
        asked.vhost()


def test_a_path_prefix_is_kept() -> None:
    """RabbitMQ's `management.path_prefix`."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(PATIENCE)
        asked = pool.submit(_first_line, server)
        with Management(f"http://127.0.0.1:{server.getsockname()[1]}/rabbit/") as management:
            assert management.overview() == {}
        assert asked.result() == b"GET /rabbit/api/overview HTTP/1.1"


def _first_line(server: socket.socket) -> bytes:
    client, _ = server.accept()
    with client:
        line = client.recv(65536).partition(b"\r\n")[0]
        whole("200 OK")(client)
    return line


def test_a_consumer_that_was_not_counted_yet() -> None:
    """RabbitMQ 4.3.6 says this of a consumer for its first seconds."""
    row = '{"queue": {"name": "q"}, "consumer_tag": "t", "prefetch_count": 4, "ack_required": true, "arguments": [], '
    with standing(whole("200 OK", f'[{row} "channel_details": []}}]')) as url, Management(url) as asked:
        assert asked.consumers() == [LiveConsumer("q", "t", 4, True)]


# Arguments -> what the line says
UNUSABLE: tuple[tuple[tuple[str, ...], str], ...] = (
    ((), "Missing option '--management'"),
    (("--management", f"guest:{SECRET}@localhost"), "the management API's URL cannot be read"),
    (("--management", f"http://guest:{SECRET}@"), "the management API's URL cannot be read"),
    (("--management", f"http://guest:{SECRET}@h:port"), "the management API's URL cannot be read"),
    (("--management", f"ftp://guest:{SECRET}@h"), "the management API's URL cannot be read"),
    (("--management", f"http://guest:{SECRET}@127.0.0.1:1"), "at http://127.0.0.1:1 does not answer"),
    (("--management", "http://127.0.0.1:1", "--fix", "queues"), "'queues' is not 'bindings'"),
    (("--management", "http://127.0.0.1:1", "--yes"), "--yes is for --fix bindings only"),
)


@pytest.mark.parametrize(("arguments", "said"), UNUSABLE)
def test_bad_input(arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYBILL_MANAGEMENT_URL", raising=False)
    result = diff(*arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.complaint
    assert SECRET not in result.err


@pytest.mark.parametrize("command", ["diff", "declare"])
@pytest.mark.parametrize(
    ("app", "said"), [((), "which application?"), (("-A", "tests.no_such"), "cannot load the application")]
)
def test_no_application(
    command: str, app: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # here pyproject.toml names one
    result = call("waybill.cli", *app, command, "--management", "http://127.0.0.1:1")
    assert (result.code, result.out) == (2, "")
    assert said in result.complaint
