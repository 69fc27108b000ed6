"""`waybill` at the terminal: answers, exit codes, and one line for whatever is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.programs import ROOT, Result, call, module
from waybill.celery_app.declared import from_celery
from waybill.cli.rendering import Node, mermaid, styled_lines, tree
from waybill.topology import Binding, Exchange, Queue, Topology
from waybill.topology.definitions import from_definitions
from waybill.topology.text import binding_label
from worker.app import app

NEWS = str(ROOT / "tests" / "support" / "data" / "news.json")


def waybill(*arguments: str) -> Result:
    return call("waybill.cli", *arguments)


def route(*arguments: str) -> Result:
    return waybill("route", "--definitions", NEWS, *arguments)


def test_route_as_json() -> None:
    answer = json.loads(route("--exchange", "news", "--routing-key", "usa.news", "--json").out)
    assert answer["queues"] == ["usa_all", "all_news"]
    assert answer["unroutable"] is False
    assert [attempt["matched"] for attempt in answer["trace"][0]["attempts"]] == [True, True]
    answer = json.loads(route("--exchange", "news", "--routing-key", "norway.weather", "--json").out)
    assert (answer["queues"], answer["unroutable"]) == ([], True)
    assert answer["trace"][0]["attempts"][0]["reason"] == "first word is `norway`, the binding wants `usa`"


def test_route_through_the_default_exchange() -> None:
    assert json.loads(route("--exchange", "", "--routing-key", "usa_all", "--json").out)["queues"] == ["usa_all"]


def test_headers_have_types(tmp_path: Path) -> None:
    path = tmp_path / "definitions.json"
    path.write_text(
        json.dumps(
            {
                "exchanges": [{"name": "h", "type": "headers"}],
                "queues": [{"name": "one"}, {"name": "text"}],
                "bindings": [
                    {"source": "h", "destination": "one", "destination_type": "queue", "arguments": {"k": 1}},
                    {"source": "h", "destination": "text", "destination_type": "queue", "arguments": {"k": "1"}},
                ],
            }
        )
    )
    asked = ("route", "--definitions", str(path), "--exchange", "h", "--json", "--header")
    assert json.loads(waybill(*asked, "k=1").out)["queues"] == ["text"]
    assert json.loads(waybill(*asked, "k:=1").out)["queues"] == ["one"]


def test_many_messages(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    lines = [
        {"exchange": "news", "routing_key": "usa.news"},
        {"exchange": "news", "routing_key": "x", "headers": {"CC": ["usa"], "BCC": ["a.news"]}},
        {"exchange": "nope", "routing_key": "usa"},
        {"routing_key": "usa_all"},
        {"exchange": "news", "routing_key": "x", "headers": {"CC": "usa"}},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    result = route("--messages", str(path))
    assert [line["queues"] for line in result.objects] == [
        ["usa_all", "all_news"],
        ["usa_all", "all_news"],
        [],
        ["usa_all"],
        [],
    ]
    assert result.objects[2]["error"] == "404 no exchange 'nope' in vhost '/'"
    assert result.objects[4]["error"].startswith("406 ")
    assert result.code == 1


def test_many_messages_stream_from_standard_input() -> None:
    from waybill.cli import waybill as command

    result = CliRunner().invoke(
        command, ["route", "--definitions", NEWS, "--messages", "-"], input='{"exchange":"news","routing_key":"usa"}\n'
    )
    assert json.loads(result.stdout) == {"queues": ["usa_all"], "unroutable": False}


# file -> what the one line says
BROKEN_LINES = (
    ("{", ":1: not JSON"),
    ('{"exchange": "news"}\n[]', ":2: expected an object with exchange, routing_key and headers, got b'[]'"),
    ('{"exchange": 1}', ":1: exchange: expected a string, got 1"),
    (json.dumps({"exchange": "news", "routing_key": "k" * 300}), ":1: routing key of 300 bytes: AMQP carries 255"),
    ('{"headers": []}', ":1: headers: expected an object, got []"),
)


@pytest.mark.parametrize(("text", "expected"), BROKEN_LINES)
def test_a_broken_line_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "messages.jsonl"
    path.write_text(text)
    result = route("--messages", str(path))
    assert f"{path}{expected}" in result.complaint
    assert result.code == 2


# arguments -> what the one line says; {tmp} is an empty folder
BAD_INPUT: tuple[tuple[tuple[str, ...], str], ...] = (
    (("route",), "expected --definitions FILE or --management URL"),
    (("route", "--definitions", NEWS), "expected --exchange (the default exchange is '') or --messages"),
    (("route", "--definitions", NEWS, "--exchange", "newz"), "no exchange 'newz' in"),
    (("route", "--definitions", NEWS, "--exchange", "newz"), "did you mean 'news'?"),
    (("route", "--definitions", NEWS, "--exchange", "news", "--header", "k"), "'k': expected name=text"),
    (("route", "--definitions", NEWS, "--exchange", "news", "--header", "=v"), "'=v': expected name=text"),
    (("route", "--definitions", NEWS, "--exchange", "news", "--header", "k:={"), "not JSON behind `:=`"),
    (("route", "--definitions", NEWS, "--exchange", "news", "--priority", "256"), "256 is not in the range"),
    (("route", "--definitions", "{tmp}/nothing.json", "--exchange", "x"), "nothing.json: No such file"),
    (("route", "--definitions", "README.md", "--exchange", "x"), "README.md: not JSON"),
    (("route", "--definitions", NEWS, "--exchange", "news", "--header", f"k:={'[' * 100_000}"), "not JSON behind `:=`"),
    (("-A", "worker", "explain", "worker.tasks.work", "--args", "[" * 100_000), "not JSON: maximum recursion depth"),
    (("-A", "worker", "explain", "worker.tasks.work", "--args", "{}"), "'{}': expected a JSON array"),
    (("-A", "worker", "explain", "worker.tasks.work", "--kwargs", "[]"), "'[]': expected a JSON object"),
    (("route", "--definitions", NEWS, "--messages", "{tmp}/nothing.jsonl"), "nothing.jsonl: No such file"),
    (("-A", "nosuch", "explain", "x"), "cannot load the application 'nosuch': ModuleNotFoundError"),
    (("-A", "tests", "topology"), "cannot load the application 'tests'"),
    (("-A", "worker", "explain", "worker.tasks.wrok"), "did you mean 'worker.tasks.work'?"),
    (("-A", "worker", "explain", "worker.tasks.work", "--queue", "vidoes"), "did you mean 'videos'?"),
    (("-A", "worker", "explain", "worker.tasks.work", "--header", "k"), "'k': expected name=text"),
    (("-A", "worker", "explain", "worker.tasks.work", "--fleet", "{tmp}/x.yml"), "x.yml: cannot be read"),
    (("-A", "worker", "topology", "--format", "png"), "'png' is not one of"),
    (("-A", "worker", "explain", "worker.tasks.work", "--countdown", "1e18"), "OverflowError"),
    (("route", "--definitions", NEWS, "--exchange", "news", "--routing-key", "k" * 300), "routing key of 300 bytes"),
    (("route", "--definitions", NEWS, "--exchange", "x" * 256), "exchange of 256 bytes"),
    (("nosuch",), "No such command 'nosuch'"),
)


@pytest.mark.parametrize(("arguments", "expected"), BAD_INPUT)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = waybill(*(argument.format(tmp=tmp_path) if "{tmp}" in argument else argument for argument in arguments))
    assert expected in result.complaint
    assert (result.code, result.out) == (2, "")


def test_celery_has_the_same_command() -> None:
    asked = ("explain", "worker.tasks.work", "--queue", "videos", "--json")
    ours = module("waybill", "-A", "worker", *asked)
    celerys = module("celery", "-A", "worker", "waybill", *asked)
    assert ours.code == celerys.code == 0
    one, other = json.loads(ours.out), json.loads(celerys.out)
    for answer in (one, other):  # these differ from one publication to the next
        for name in ("id", "root_id", "origin"):
            del answer["headers"][name]
    assert one == other
    wrong = module("celery", "-A", "worker", "waybill", "explain", "worker.tasks.wrok")
    assert "did you mean 'worker.tasks.work'?" in wrong.complaint
    assert wrong.code == 2


def test_below_celery_the_exit_code_stays(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    path.write_text('{"exchange": "nope"}\n')
    asked = ("route", "--definitions", NEWS, "--messages", str(path))
    assert module("celery", "-A", "worker", "waybill", *asked).code == waybill(*asked).code == 1


def test_a_terminal_that_lacks_a_character_shows_its_number() -> None:
    result = module("waybill", "topology", environment={"PYTHONIOENCODING": "ascii"})
    assert result.code == 0
    assert "\\u251c\\u2500\\u2500 media (direct)" in result.out


def test_alone_it_prints_its_help() -> None:
    result = waybill()
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: ")
    assert "\n  explain " in result.err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which modules of an application may be put."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def test_an_application_that_exits_is_one_line(folder: Path) -> None:
    (folder / "exiting_app.py").write_text("raise SystemExit(3)")
    result = waybill("-A", "exiting_app", "topology")
    assert result.complaint == "error: cannot load the application 'exiting_app': SystemExit: 3"
    assert (result.code, result.out) == (2, "")


def test_a_broker_without_declarations_has_no_difference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "shop.py").write_text(
        "from celery import Celery\napp = Celery(broker='memory://', set_as_current=False)\n"
    )
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    result = waybill("-A", "shop", "diff", "--management", "http://guest:guest@127.0.0.1:1")
    assert "expected one that speaks AMQP, got memory" in result.complaint
    assert (result.code, result.out) == (2, "")


@pytest.mark.usefixtures("folder")
def test_no_application_is_one_line() -> None:
    result = waybill("explain", "x")
    assert "which application? expected `waybill -A proj ...`" in result.complaint
    assert result.code == 2


def test_pyproject_names_the_application_for_every_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "shop.py").write_text("from celery import Celery\napp = Celery(set_as_current=False)\n")
    (folder / "pyproject.toml").write_text("[tool.waybill]\napp = 'shop'\n")
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    assert "`celery`" in waybill("topology").out


ASKING = (
    ("explain", "shop.add"),
    ("check",),
    ("declare",),
    ("diff", "--management", "http://guest:guest@127.0.0.1:1"),
)


# A URL that Kombu cannot read -> what is shown of it
UNREADABLE = {
    "slash": ("amqp://user:s3/cret@h", "amqp://user:**@h"),
    "brackets": ("amqp://user:[s3cret]@host//", "amqp://user:**@host//"),
    "one sign for three": ("amqp://user:s3℀cret@host//", "amqp://user:**@host//"),
    "port": ("amqp://user:s3cret@host:99999//", "amqp://user:**@host:99999//"),
    "list": ("amqp://user:[s3cret]@host//;amqp://user:s3cret@other", "amqp://user:**@host//;amqp://user:**@other"),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("arguments", ASKING, ids=lambda arguments: arguments[0])
def test_a_broker_url_that_cannot_be_read_is_one_line_without_its_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], name: str
) -> None:
    url, shown = UNREADABLE[name]
    (folder / "shop.py").write_text(
        f"from celery import Celery\napp = Celery('shop', broker={url!r}, set_as_current=False)\n"
        "@app.task(shared=False)\ndef add(): ...\n",
        encoding="utf-8",
    )
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    result = waybill("-A", "shop", *arguments)
    assert result.complaint == (
        f"error: the application's broker {shown!r}: not a URL, expected one such as "
        "amqp://user:password@host:5672/vhost or redis://:password@host:6379/0"
    )
    assert (result.code, result.out) == (2, "")


def test_what_an_application_prints_is_no_result(folder: Path) -> None:
    (folder / "printing_app.py").write_text(
        'from celery import Celery\nprint("hello")\n'
        'app = Celery("printing", set_as_current=False)\n@app.task(name="p")\ndef p(): ...\n'
    )
    result = waybill("-A", "printing_app", "explain", "p", "--json")
    assert result.objects[0]["task"] == "p"
    assert result.err == "hello\n"


def test_an_empty_key_at_a_direct_exchange_is_refused() -> None:
    result = call("publishers.alternate", "card", "")
    assert "an empty KEY" in result.complaint
    assert result.code == 2


def test_a_binding_is_shown_as_its_exchange_reads_it() -> None:
    assert binding_label(Binding("t", "q", "a.*", {"note": 1}), "topic") == "`a.*`"
    assert binding_label(Binding("h", "q", "", {"note": 1}), "headers") == "{note: 1}"
    assert binding_label(Binding("d", "q", "k", {"x-match": "all"}), "x-unknown") == "{x-match: all}"


def test_topology_formats() -> None:
    declared = from_celery(app)
    text = waybill("-A", "worker", "topology", "--fleet", "docker-compose.yml").out
    assert "`*.news` → all_news  ⇒ world" in text
    definitions = waybill("-A", "worker", "topology", "--format", "definitions").out
    assert from_definitions(json.loads(definitions)) == declared
    assert waybill("-A", "worker", "topology", "--format", "mermaid", "--no-fleet").out == mermaid(declared)


def test_topology_as_json_has_what_definitions_lack() -> None:
    answer = json.loads(waybill("-A", "worker", "topology", "--format", "json").out)
    definitions = json.loads(waybill("-A", "worker", "topology", "--format", "definitions").out)
    assert answer.keys() == {"vhost", "exchanges", "queues", "bindings"}
    assert next(queue for queue in answer["queues"] if queue["name"] == "images") == {
        "name": "images",
        "type": "classic",
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "arguments": {},
        "workers": ["images1", "images2"],
    }
    assert answer["bindings"][1] == {
        "source": "media",
        "destination": "videos",
        "destination_type": "queue",
        "binding_key": "media.video",
        "arguments": {},
    }
    assert "workers" not in definitions["queues"][0]
    assert definitions["bindings"][1]["routing_key"] == "media.video"
    assert (
        waybill("-A", "worker", "topology", "--json").out == waybill("-A", "worker", "topology", "--format", "json").out
    )
    without = json.loads(waybill("-A", "worker", "topology", "--json", "--no-fleet").out)
    assert {queue["workers"] for queue in without["queues"]} == {None}
    refused = waybill("-A", "worker", "topology", "--json", "--format", "mermaid")
    assert refused.complaint == "error: --json and --format mermaid exclude each other"


def test_colours_come_from_the_node_and_not_from_its_text() -> None:
    node = Node("✓ a queue's name", (Node("b", style="green"),))
    assert list(styled_lines(node)) == [("✓ a queue's name", ""), ("└── b", "green")]


def test_a_tree_is_drawn() -> None:
    node = Node("a", (Node("b", (Node("c"), Node("d"))), Node("e", (Node("f"),))))
    assert tree(node) == "a\n├── b\n│   ├── c\n│   └── d\n└── e\n    └── f"


def test_a_mermaid_map_keeps_names_apart_and_quotes_them() -> None:
    topology = Topology(
        [Exchange("a.b", "topic", arguments={"alternate-exchange": "a_b"}), Exchange("a_b", "fanout")],
        [Queue('q"1', arguments={"x-dead-letter-exchange": "a_b"})],
        [Binding("a.b", 'q"1', "k.#"), Binding("a_b", "a.b", destination_type="exchange")],
    )
    assert mermaid(topology, {'q"1': ["w"]}).splitlines() == [
        "flowchart LR",
        '    x_a_2e_b{{"a.b<br/>topic"}}',
        '    x_a_5f_b{{"a_b<br/>fanout"}}',
        '    q_q_22_1["q#quot;1"]',
        '    x_a_2e_b -- "k.#" --> q_q_22_1',
        '    x_a_5f_b -- " " --> x_a_2e_b',
        '    x_a_2e_b -. "alternate" .-> x_a_5f_b',
        '    q_q_22_1 -. "dead letters" .-> x_a_5f_b',
        '    q_q_22_1 ==> w_w(["w"])',
    ]
