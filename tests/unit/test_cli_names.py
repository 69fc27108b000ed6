"""Names may hold anything: whatever they hold, every command prints them so that they are only shown."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import Result, call
from waybill.cli.commands.diff import print_plan
from waybill.diff import text
from waybill.diff.plan import Failure, OrphanExchange, OrphanQueue, Plan
from waybill.rabbitmq.management import LiveBinding
from waybill.topology import Binding, Exchange, Queue
from waybill.topology.text import printable

TAME, OTHER = "tame", "other"

# What a name does on a terminal, in a log or in a picture when it is printed as it is.
HOSTILE = {
    "a line of its own": "q\nqueues: none",
    "carriage return": "q\rvhost /",
    "tab": "q\tq",
    "colour": "q\x1b[31mred",
    "a terminal's title": "\x1b]0;owned\x07q",
    "a control of C1": "q\x9b31mred",
    "null": "q\x00q",
    "right to left": "q\u202egnp.exe",
    "isolated": "q\u2066exe\u2069",
    "zero width": "q\u200bq",
    "byte order mark": "\ufeffq",
    "line separator": "q\u2028q",
    "no-break space": "q\u00a0q",
    "255 bytes": "é" * 127 + "q",
    "markup of Rich": "[red]q[/red] [link=http://x]q[/link]",
    "emoji of Rich": ":smile: q",
    "workflow command": "::error::owned",
    "workflow command behind blanks": "  ::stop-commands::owned",
    "older workflow command": "q##[error]owned",
    "quotes": "q'\"q",
    "backticks": "`**q**`",
    "end of a Mermaid node": 'q"]\n  x --> y["',
    "Mermaid entity": "q#quot;q",
    "Mermaid directive": "%%{init: {'theme': 'dark'}}%%",
    "HTML": "<img src=x onerror=alert(1)>&amp;",
    "backslash": "q\\nq",
    "tick": "✓ q",
    "arrow": "q  ⇒ worker",
    "blank": " ",
}

# No text in UTF-8: RabbitMQ refuses such a name.
HALF_A_PAIR = "q\udcffq"

# Where a GitHub workflow would take a line for a command.
COMMAND = re.compile(r"^\s*::|##\[")

# A line of a Mermaid map: node ids are words, and nothing in a label ends it or is read as anything but text.
LABEL = r'"(?:[^"`\\%<>]|<br/>)*"'
MERMAID = re.compile(
    rf"flowchart LR|    [xq]_\w*(?:\{{\{{{LABEL}\}}\}}|\[{LABEL}\]|"
    rf" -- {LABEL} --> [xq]_\w*| -\. {LABEL} \.-> x_\w*| ==> w_\w*\(\[{LABEL}\]\))"
)

_numbers = itertools.count()

APPLICATION = """
from celery import Celery
from kombu import Exchange, Queue, binding

NAME = {name!r}
app = Celery(NAME, broker="amqp://", set_as_current=False)
lost = Exchange("lost" + NAME[:5], "fanout")
direct = Exchange(NAME, "direct", arguments={{"alternate-exchange": lost.name}})
matching = Exchange("h" + NAME[:5], "headers")
app.conf.task_queues = [
    Queue(NAME, direct, NAME, queue_arguments={{"x-dead-letter-exchange": NAME, "x-dead-letter-routing-key": NAME}}),
    Queue("h" + NAME[:5], [binding(matching, arguments={{"x-match": "all", NAME: NAME}})]),
    Queue("lost" + NAME[:5], lost),
]
app.conf.task_default_queue = NAME
app.conf.task_routes = {{NAME: {{"exchange": NAME, "routing_key": NAME}}}}

@app.task(name=NAME, priority=9, shared=False)
def task(): ...

def calls():
    task.apply_async(exchange=NAME, routing_key="elsewhere")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which an application may be put."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def about(folder: Path, name: str) -> str:
    """The module of an application in which everything has this name."""
    module = f"named_{next(_numbers)}"
    (folder / f"{module}.py").write_text(APPLICATION.format(name=name))
    document = json.dumps({"services": {"worker": {"command": ["celery", "-A", module, "worker", "-n", f"{name}@%h"]}}})
    (folder / "docker-compose.yml").write_text(document)
    return module


def definitions(folder: Path, name: str) -> str:
    """A definitions file in which everything has this name."""
    path = folder / "definitions.json"
    document = {
        "exchanges": [{"name": name, "type": "headers", "vhost": name}, {"name": "x", "type": "fanout", "vhost": name}],
        "queues": [{"name": name, "vhost": name}, {"name": "further", "vhost": name}],
        "bindings": [
            {"source": name, "destination": name, "vhost": name, "routing_key": name, "arguments": {name: name}},
            {"source": name, "destination": "further", "vhost": name, "arguments": {"k": name}},
            {"source": name, "destination": "x", "destination_type": "exchange", "vhost": name, "routing_key": name},
        ],
    }
    path.write_text(json.dumps(document))
    return path.name


def route(folder: Path, name: str, *options: str) -> Result:
    asked = ("--definitions", definitions(folder, name), "--exchange", name, "--routing-key", name)
    return call("waybill.cli", "route", *asked, "--header", f"n={name}", *options)


def route_nowhere(folder: Path, name: str, *options: str) -> Result:
    asked = ("--definitions", definitions(folder, OTHER), "--exchange", name, "--routing-key", name)
    return call("waybill.cli", "route", *asked, *options)


def explain(folder: Path, name: str, *options: str) -> Result:
    asked = (name, "--header", f"n={name}", "--fleet", "docker-compose.yml")
    return call("waybill.cli", "-A", about(folder, name), "explain", *options, *asked[1:], "--", asked[0])


def explain_unknown(folder: Path, name: str, *options: str) -> Result:
    return call("waybill.cli", "-A", about(folder, OTHER), "explain", *options, "--", name)


def topology(folder: Path, name: str, *options: str) -> Result:
    return call("waybill.cli", "-A", about(folder, name), "topology", "--fleet", "docker-compose.yml", *options)


def check(folder: Path, name: str, *options: str) -> Result:
    return call("waybill.cli", "-A", about(folder, name), "check", *options)


def load(folder: Path, name: str, *options: str) -> Result:
    del folder
    return call("waybill.cli", "-A", name, "topology", *options)


Asked = Callable[..., Result]

# Every command, and every format for people.
FOR_PEOPLE: tuple[tuple[Asked, tuple[str, ...]], ...] = (
    (route, ()),
    (route_nowhere, ()),
    (explain, ()),
    (explain_unknown, ()),
    (topology, ()),
    (topology, ("--format", "mermaid")),
    (check, ()),
    (check, ("--github",)),
    (load, ()),
)
AS_JSON: tuple[tuple[Asked, tuple[str, ...]], ...] = (
    (route, ("--json",)),
    (explain, ("--json",)),
    (topology, ("--json",)),
    (topology, ("--format", "definitions")),
    (check, ("--json",)),
)


def called(row: Any) -> str:
    return " ".join([row[0].__name__, *row[1]]) if isinstance(row, tuple) else str(row)


def is_command(line: str, is_github: bool) -> bool:
    """Whether a workflow would do something at this line, other than the annotation that was asked for."""
    own = re.match(r"::(error|warning|notice) [^:]*::", line) if is_github else None
    return COMMAND.search(line[own.end() :] if own else line) is not None


@pytest.fixture(scope="module")
def tame_lines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], tuple[int, int]]:
    """How many lines a command prints on standard output and on standard error where all names are harmless."""

    @cache
    def counted(row: tuple[Asked, tuple[str, ...]]) -> tuple[int, int]:
        with pytest.MonkeyPatch.context() as patch:
            folder = tmp_path_factory.mktemp("tame")
            patch.chdir(folder)
            patch.syspath_prepend(folder)
            shown = row[0](folder, TAME, *row[1])
        out, err = (printed.removesuffix("\n").split("\n") for printed in (shown.out, shown.err))
        return len(out), len(err)

    return counted


@pytest.mark.parametrize("row", FOR_PEOPLE, ids=called)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=list(HOSTILE))
def test_a_name_is_only_shown(
    folder: Path, name: str, row: tuple[Asked, tuple[str, ...]], tame_lines: Callable[[Any], tuple[int, int]]
) -> None:
    asked, options = row
    shown = asked(folder, name, *options)
    for printed, expected in zip((shown.out, shown.err), tame_lines(row), strict=True):
        lines = printed.removesuffix("\n").split("\n")
        assert len(lines) == expected
        assert [line for line in lines if not line.isprintable()] == []
        assert [line for line in lines if is_command(line, "--github" in options)] == []


@pytest.mark.parametrize("name", HOSTILE.values(), ids=list(HOSTILE))
def test_a_mermaid_map_keeps_its_shape(folder: Path, name: str) -> None:
    lines = topology(folder, name, "--format", "mermaid").out.splitlines()
    assert [line for line in lines if not MERMAID.fullmatch(line)] == []
    # As Mermaid reads an entity.
    shown = [unescape(re.sub(r"#(\d+;)", r"&#\1", re.sub(r"#([a-z]+;)", r"&\1", line))) for line in lines]
    assert any(line.endswith(f'["{printable(name)}"]') for line in shown)


@pytest.mark.parametrize("row", FOR_PEOPLE, ids=called)
def test_a_name_that_is_no_text_is_refused_and_shown(folder: Path, row: tuple[Asked, tuple[str, ...]]) -> None:
    asked, options = row
    shown = asked(folder, HALF_A_PAIR, *options)
    lines = (shown.out + shown.err).removesuffix("\n").split("\n")
    assert shown.code == (1 if asked is check else 2)
    assert asked is check or len(lines) == 1
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("row", AS_JSON, ids=called)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=list(HOSTILE))
def test_json_holds_the_name_itself(folder: Path, name: str, row: tuple[Asked, tuple[str, ...]]) -> None:
    asked, options = row
    shown = asked(folder, name, *options)
    assert shown.out.isascii()
    assert name in set(strings(json.loads(shown.out)))


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain(value, *map(strings, value.values()))
    elif isinstance(value, list):
        yield from itertools.chain(*map(strings, value))


def plan(name: str) -> Plan:
    """A difference in which everything has this name."""
    exchange, queue = Exchange(name, name, arguments={name: name}), Queue(name, arguments={name: name})
    binding = Binding(name, name, name, {name: name})
    live = LiveBinding(binding, name)
    sentence = f"inequivalent arg '{name}' for queue '{name}' in vhost '{name}'"
    return Plan(
        name,
        create=(exchange, queue, binding),
        failures=(Failure(queue, 406, sentence, name, name, name, ((name, name),)),),
        stale=(live,),
        queues=(OrphanQueue(queue, 1, 1, (live,)),),
        exchanges=(OrphanExchange(exchange, 1),),
    )


@pytest.mark.parametrize("name", HOSTILE.values(), ids=list(HOSTILE))
def test_a_difference_only_shows_a_name(name: str) -> None:
    def printed(name: str) -> list[str]:
        with redirect_stdout(StringIO()) as out:
            print_plan(text.text(plan(name)))
        return out.getvalue().removesuffix("\n").split("\n")

    lines = printed(name)
    assert len(lines) == len(printed(TAME))
    assert all(line.isprintable() and not is_command(line, False) for line in lines)
    assert name in set(strings(json.loads(json.dumps(plan(name).to_json()))))


def test_what_is_harmless_is_not_changed() -> None:
    for line in ("news (topic) — published here", "a::b", "#", "k.#", "日本語", "a:b ##"):
        assert printable(line) == line
    assert printable("a\x1b[0m\n") == "a\\x1b[0m\\n"
    assert printable("::error::x") == "\\x3a:error::x"
    assert printable("x ##[group]") == "x #\\x23[group]"
