"""`waybill check` at the terminal, without a broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.check_project import CLEAN, project_in, run
from tests.support.hostile_api import SECRET
from tests.support.programs import ROOT, TIMEOUT, Result, call
from waybill.celery_app.installed import CELERY_VERSION, HAS_NATIVE_DELAY
from waybill.check import NEEDS, RULES


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes an application, and perhaps a pyproject.toml, into the folder that becomes the current one."""
    return project_in(tmp_path, monkeypatch)


def codes(result: Result) -> list[str]:
    """The codes of the findings in the answer as JSON."""
    return [finding["code"] for finding in result.objects[0]["findings"]]


# What a check says on a Celery that doesn't delay natively.
LATER = (
    ""
    if HAS_NATIVE_DELAY
    else f"of Celery 5.5 and later ({CELERY_VERSION} is installed, which doesn't do this): WB101, WB107, WB108\n"
)


def test_a_finding_is_told_in_four_lines(project: Callable[..., str]) -> None:
    name = project()
    shown = run(name)
    assert shown.code == 1
    assert shown.err == ""
    assert (
        shown.out
        == f"""\
WB105 error  proj.report, news  {name}.py:16
  published to `news` with the routing key `us.weather`, which matches no binding there (of 1): the message is \
dropped; the nearest binding is `usa.#`
  fix: routing_key="..." that `usa.#` takes, or arguments={{"alternate-exchange": "unfiled"}} on `news`
  https://www.rabbitmq.com/docs/publishers#unroutable

WB307 warning  task_rutes
  Celery doesn't know the setting `task_rutes` and ignores it; did you mean `task_routes`?
  fix: task_routes = ...
  https://docs.celeryq.dev/en/stable/userguide/configuration.html#new-lowercase-settings

WB116 note  elsewhere.*
  `elsewhere.*` matches none of the registered tasks
  fix: take 'elsewhere.*' out, or import the module of its tasks
  https://docs.celeryq.dev/en/stable/userguide/routing.html#automatic-routing

3 findings; 50 rules checked
not checked: 2 rules need RabbitMQ's version: --rabbitmq 4.3, or --management; 6 rules need the workers' commands: \
--fleet docker-compose.yml, or a Procfile with them; 6 rules need the broker's management API: \
--management http://user:password@host:15672
read 1 file: 1 call
{LATER}"""
    )


def test_as_json(project: Callable[..., str]) -> None:
    shown = run(project(), "--json")
    (answer,) = shown.objects
    assert shown.code == 1
    assert set(answer) == {
        "findings",
        "gone",
        "known",
        "ignored",
        "unchecked",
        "unused",
        "later",
        "handlers_not_called",
        "not_read",
        "not_routed",
        "read",
    }
    assert answer["findings"][0] == {
        "code": "WB105",
        "severity": "error",
        "title": RULES["WB105"].title,
        "objects": ["proj.report", "news"],
        "text": answer["findings"][0]["text"],
        "fix": answer["findings"][0]["fix"],
        "where": answer["findings"][0]["where"],
        "source": RULES["WB105"].source,
    }
    assert {row["needs"] for row in answer["unchecked"]} == set(NEEDS.values())


def test_as_annotations_of_a_workflow(project: Callable[..., str]) -> None:
    name = project()
    shown = run(name, "--github")
    error, warning, note = shown.out.splitlines()
    assert error.startswith(f"::error file={name}.py,line=16,title=WB105::proj.report, news: published to `news` ")
    assert "%0Afix: routing_key" in error
    assert warning.startswith("::warning title=WB307::task_rutes: ")
    assert note.startswith("::notice title=WB116::elsewhere.*: ")


def test_as_sarif(project: Callable[..., str]) -> None:
    """What SARIF 2.1.0 demands: a rule for each result, at the index that it names, and paths without a scheme."""
    name = project()
    shown = run(name, "--sarif")
    assert shown.code == 1
    log = json.loads(shown.out)
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    rules, results = log["runs"][0]["tool"]["driver"]["rules"], log["runs"][0]["results"]
    assert [(one["ruleId"], one["level"]) for one in results] == [
        ("WB105", "error"),
        ("WB307", "warning"),
        ("WB116", "note"),
    ]
    assert [rules[one["ruleIndex"]]["id"] for one in results] == ["WB105", "WB307", "WB116"]
    assert all(rule["helpUri"].startswith("https://") for rule in rules)
    assert results[0]["locations"] == [
        {"physicalLocation": {"artifactLocation": {"uri": f"{name}.py"}, "region": {"startLine": 16}}}
    ]
    assert results[1]["locations"] == []
    assert all(len(one["partialFingerprints"]["waybill/v1"]) == 64 for one in results)


def test_only_what_is_new_fails(project: Callable[..., str], tmp_path: Path) -> None:
    name = project()
    shown = run(name, "--write-baseline", "known.json")
    assert (shown.code, shown.out, shown.err) == (0, "", "known.json: a baseline of 3 findings\n")
    module = tmp_path / f"{name}.py"
    module.write_text("\n\n# Lines that move the others.\n\n" + module.read_text())
    again = run(name, "--baseline", "known.json")
    assert again.code == 0
    assert again.out.startswith("no findings, 3 in the baseline; ")
    # Another call of the same kind is new, also of the same task.
    module.write_text(module.read_text() + "def more():\n    report.apply_async(exchange='news', routing_key='eu.x')\n")
    more = run(name, "--baseline", "known.json", "--json")
    assert (more.code, codes(more), len(more.objects[0]["known"])) == (1, ["WB105"], 3)
    module.write_text(module.read_text().partition("def later")[0])
    gone = run(name, "--baseline", "known.json")
    assert "in the baseline and not found any more: 1; --write-baseline writes it anew" in gone.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "known.json: not JSON: "),
        ("[]", "known.json: expected a baseline of version 1, got a list"),
        ('{"version": 2}', "known.json: expected a baseline of version 1, got 2"),
        ('{"version": 1, "findings": 3}', "known.json: findings: expected a list, got 3"),
        ('{"version": 1, "findings": [{}]}', "known.json: findings[0]: fingerprint: expected text, got nothing"),
    ],
)
def test_what_is_no_baseline(project: Callable[..., str], tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "known.json").write_text(text)
    shown = run(project(), "--baseline", "known.json")
    assert shown.code == 2
    assert said in shown.complaint


def test_the_hook_of_pre_commit_runs_the_command(project: Callable[..., str]) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["entry"], hook["language"], hook["pass_filenames"]) == ("waybill check", "system", False)
    name = project(configuration='[tool.waybill]\napp = "$APP"\n')
    command = hook["entry"].split()[1:]
    assert call("waybill.cli", *command).out == run(name).out


@pytest.mark.parametrize("form", [(), ("--github",)], ids=["text", "github"])
def test_a_name_may_hold_anything(project: Callable[..., str], form: tuple[str, ...]) -> None:
    """It stays one line, and colours no terminal."""
    name = project('@app.task(name="proj.x\\n::error::\\u2028", priority=9, queue="a\\x1b[31mred")\ndef index(): ...\n')
    shown = run(name, "--select", "WB301", *form)
    assert shown.code == 1
    assert "proj.x\\n::error::\\u2028, a\\x1b[31mred" in shown.out
    assert all(line.isprintable() for line in shown.out.split("\n"))


@pytest.mark.parametrize(
    ("arguments", "found", "code"),
    [
        (("--select", "WB105"), ["WB105"], 1),
        (("--select", "WB1"), ["WB105", "WB116"], 1),
        (("--select", "WB1,WB3", "--ignore", "WB105"), ["WB307", "WB116"], 1),
        (("--ignore", "WB105", "--fail-on", "error"), ["WB307", "WB116"], 0),
        (("--ignore", "WB105", "--ignore", "WB3"), ["WB116"], 0),
        (("--ignore", "WB105,WB3", "--fail-on", "note"), ["WB116"], 1),
        (("--select", "WB2"), [], 0),
    ],
)
def test_what_is_chosen_and_what_fails(
    project: Callable[..., str], arguments: tuple[str, ...], found: list[str], code: int
) -> None:
    shown = run(project(), "--json", *arguments)
    assert codes(shown) == found
    assert shown.code == code


def test_the_rules_are_listed_and_explained() -> None:
    shown = run(None, "--list")
    assert shown.code == 0
    assert [line[:5] for line in shown.out.splitlines()] == sorted(RULES)
    assert "WB119  error    Tasks go to a queue that no worker consumes  (needs fleet)" in shown.out.splitlines()
    for code, rule in RULES.items():
        explained = run(None, "--explain", code)
        assert explained.code == 0
        assert rule.symptom in explained.out
        assert rule.source in explained.out
        assert rule.failing.splitlines()[-1] in explained.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--explain", "WB1055"), "no rule 'WB1055' in waybill check --list; did you mean 'WB105'?"),
        (("--select", "WB1055"), "no rule 'WB1055' in waybill check --list; did you mean 'WB105'?"),
        (("--ignore", "XY"), "no rule 'XY' in waybill check --list"),
        (("--rabbitmq", "new"), "expected a version such as 4.3, got 'new'"),
        (("--json", "--github"), "--json, --github and --sarif exclude each other"),
        (("--sarif", "--github"), "--json, --github and --sarif exclude each other"),
        (("--baseline", "a", "--write-baseline", "b"), "--baseline and --write-baseline exclude each other"),
        (("--baseline", "nowhere.json"), "nowhere.json: No such file or directory; --write-baseline makes a baseline"),
        (("--write-baseline", "no/where.json"), "no/where.json: No such file or directory"),
        (("--fail-on", "never"), "'never' is not one of 'note', 'warning', 'error'"),
        (("--fleet", "nowhere.yml"), "nowhere.yml"),
        (("--management", f"guest:{SECRET}@127.0.0.1"), "the management API's URL cannot be read"),
        (("--management", f"http://guest:{SECRET}@127.0.0.1:x"), "the management API's URL cannot be read"),
    ],
)
def test_nonsense_is_one_line(project: Callable[..., str], arguments: tuple[str, ...], said: str) -> None:
    shown = run(project(), *arguments)
    assert shown.code == 2
    assert said in shown.complaint
    assert SECRET not in shown.out + shown.err


@pytest.mark.parametrize("url", [f"nosuch://guest:{SECRET}@localhost//", f"amqp://guest:{SECRET}/x@localhost//"])
def test_a_broker_that_kombu_cannot_speak_to(project: Callable[..., str], url: str) -> None:
    shown = run(project(f"app.conf.broker_url = {url!r}"))
    assert shown.code == 2
    assert shown.complaint.startswith("error: the application's broker '")
    assert SECRET not in shown.err


@pytest.mark.parametrize("name", ["nosuch", "waybill_no.such"])
def test_an_application_that_is_not_there(project: Callable[..., str], name: str) -> None:
    project()
    shown = run(name)
    assert shown.code == 2
    assert f"cannot load the application '{name}'" in shown.complaint


def test_no_application_is_named(project: Callable[..., str]) -> None:
    project()
    shown = run(None)
    assert shown.code == 2
    assert "which application?" in shown.complaint


def test_on_another_broker_fewer_rules_hold(project: Callable[..., str]) -> None:
    shown = run(project(f"{CLEAN}\napp.conf.broker_url = 'redis://localhost'\n"))
    assert shown.code == 0
    assert "WB403 note  broker_url" in shown.out
    about_names = {code for code in RULES if RULES[code].any_broker}
    assert about_names == {
        "WB105",
        "WB110",
        "WB112",
        "WB113",
        "WB116",
        "WB118",
        "WB119",
        "WB124",
        "WB307",
        "WB315",
        "WB401",
        "WB402",
        "WB403",
    }
    assert f"1 finding; {len(about_names) - 3} rules checked\n" in shown.out  # three need a fleet


# --- [tool.waybill] in pyproject.toml


def test_the_configuration_names_the_application_and_the_fleet(project: Callable[..., str], tmp_path: Path) -> None:
    name = project(configuration='[tool.waybill]\napp = "$APP"\nfleet = "Procfile"\n')
    (tmp_path / "Procfile").write_text(f"all: celery -A {name} worker -n all@%h -Q celery\n")
    shown = run(None, "--json")
    assert codes(shown) == ["WB105", "WB307", "WB116"]
    assert NEEDS["fleet"] not in {row["needs"] for row in shown.objects[0]["unchecked"]}


def test_the_command_line_comes_first(project: Callable[..., str]) -> None:
    project(configuration='[tool.waybill]\napp = "nosuch"\n')
    assert codes(run(project(), "--json")) == ["WB105", "WB307", "WB116"]


def test_a_finding_is_ignored_with_its_reason(project: Callable[..., str]) -> None:
    ignored = '[tool.waybill.ignore]\n"WB105:proj.report" = "a signal adds the key"\nWB307 = "ours"\n'
    name = project(configuration=ignored)
    shown = run(name, "--json")
    assert codes(shown) == ["WB116"]
    assert shown.code == 0
    assert {row["code"]: row["reason"] for row in shown.objects[0]["ignored"]} == {
        "WB105": "a signal adds the key",
        "WB307": "ours",
    }
    assert "1 finding, 2 ignored with a reason; 50 rules checked" in run(name).out


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ("[tool.waybill", "pyproject.toml: "),
        ('tool = "x"', "3 findings"),
        ("[tool]\nwaybill = 3", "pyproject.toml [tool.waybill]: expected a table, got 3"),
        ("[tool.waybill]\nap = 'x'", "no key 'ap' in pyproject.toml [tool.waybill]; did you mean 'app'?"),
        ("[tool.waybill]\napp = 3", "pyproject.toml [tool.waybill]: app: expected text or a list of texts, got 3"),
        (
            "[tool.waybill]\nfleet = [1]",
            "pyproject.toml [tool.waybill]: fleet: expected text or a list of texts, got [1]",
        ),
        ("[tool.waybill]\nfleet = 'nowhere.yml'", "nowhere.yml"),
        ("[tool.waybill]\nignore = ['WB105']", "ignore: expected {CODE = \"reason\"}, got ['WB105']"),
        ("[tool.waybill.ignore]\nWB105 = ''", "ignore of WB105: got no reason"),
        ("[tool.waybill.ignore]\nWB105 = true", "ignore of WB105: got no reason"),
        ("[tool.waybill.ignore]\nWB1055 = 'x'", "no rule 'WB1055' in waybill check --list; did you mean 'WB105'?"),
    ],
)
def test_a_malformed_configuration(project: Callable[..., str], configuration: str, said: str) -> None:
    shown = run(project(configuration=configuration))
    if configuration.startswith("tool ="):  # no table at all: somebody else's file
        assert said in shown.out
    else:
        assert shown.code == 2
        assert said in shown.complaint


def test_a_configuration_that_is_no_text(project: Callable[..., str], tmp_path: Path) -> None:
    name = project()
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")
    shown = run(name)
    assert shown.code == 2
    assert shown.complaint.startswith("error: pyproject.toml: ")


# --- as processes


def process(*command: str, **environment: str) -> Result:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BROKER", "WAYBILL_"))}
    done = subprocess.run(
        [sys.executable, *command],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_as_a_command_of_celery(project: Callable[..., str]) -> None:
    name = project()
    below = process("-m", "celery", "-A", name, "waybill", "check", "--json")
    alone = process("-m", "waybill", "-A", name, "check", "--json")
    assert below.code == alone.code == 1
    assert below.out == alone.out
    failed = process("-m", "celery", "-A", name, "waybill", "check", "--select", "XY")
    assert failed.code == 2
    assert failed.complaint == "error: no rule 'XY' in waybill check --list"


# Python tells an audit hook of every connection before it is made, and of every name that is looked up.
LONELY = """
import os, sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(99)

sys.addaudithook(hook)
sys.argv = ["waybill", *sys.argv[1:]]
from waybill.cli import program
program()
"""


def test_a_check_connects_to_nothing(project: Callable[..., str], tmp_path: Path) -> None:
    name = project()
    (tmp_path / "Procfile").write_text(f"all: celery -A {name} worker -n all@%h -Q celery\n")
    shown = process("-c", LONELY, "-A", name, "check", "--fleet", "Procfile", "--rabbitmq", "4.3")
    assert shown.err == ""
    assert shown.code == 1
    asked = process("-c", LONELY, "-A", name, "check", "--management", "http://127.0.0.1:1")
    assert asked.code == 99
