"""What the installed Celery has and lacks, the floors that pyproject.toml names, and the matrix' table."""

from __future__ import annotations

import ast
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import celery
import kombu
import pytest
import yaml
from celery import Celery
from kombu import Exchange, Queue

from tests.support import check_example
from tests.support.apps.explained import app as explained
from tests.support.celery_lines import needs_native_delay
from tests.support.programs import ROOT
from tools import matrix
from waybill.celery_app import installed
from waybill.celery_app.declared import from_celery
from waybill.check import RULES, check
from waybill.check.report import text
from waybill.explain import explain_task

QUORUM = {"x-queue-type": "quorum"}

LACKING = (
    "celery.utils.quorum_queues",
    "kombu.transport.native_delayed_delivery",
    "celery.worker.consumer.delayed_delivery",
)


before_native_delay = pytest.mark.skipif(installed.HAS_NATIVE_DELAY, reason="Celery 5.5 and later delay natively")


def with_quorum_queue() -> Celery:
    app = Celery("app", broker="amqp://nobody@127.0.0.1:1//", set_as_current=False)
    app.conf.task_queues = [Queue("q", Exchange("x", "topic"), "k", queue_arguments=QUORUM)]
    return app


def test_the_version_is_celerys() -> None:
    assert celery.__version__ == installed.CELERY_VERSION
    assert tuple(map(int, celery.__version__.split(".")[:2])) == installed.CELERY
    assert installed.since(installed.CELERY)
    assert not installed.since((installed.CELERY[0], installed.CELERY[1] + 1))


def test_native_delay_came_with_5_5() -> None:
    assert installed.since(installed.NATIVE_DELAY_FROM) == installed.HAS_NATIVE_DELAY


def test_an_application_delays_natively_where_its_celery_does() -> None:
    assert installed.delays_natively(with_quorum_queue()) == installed.HAS_NATIVE_DELAY
    assert not installed.delays_natively(Celery("app", set_as_current=False))


def test_only_one_module_imports_what_may_be_absent() -> None:
    modules = [*(ROOT / "waybill").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    naming = {path.name for path in modules if _imports(path) & set(LACKING)}
    assert naming == {"installed.py"}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


@pytest.fixture
def no_native_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Celery 5.4: its own code on a newer one delays natively all the same, so only what we say is looked at."""
    monkeypatch.setattr(installed, "detect_quorum_queues", None)
    monkeypatch.setattr(installed, "HAS_NATIVE_DELAY", False)
    monkeypatch.setattr(installed, "CELERY", (5, 4))


@pytest.mark.usefixtures("no_native_delay")
def test_without_native_delay_nothing_of_it_is_declared() -> None:
    assert [exchange.name for exchange in from_celery(with_quorum_queue()).exchanges] == ["x"]


@needs_native_delay
def test_with_native_delay_its_exchanges_are_declared() -> None:
    declared = [exchange.name for exchange in from_celery(with_quorum_queue()).exchanges]
    assert {"x", "celery_delayed_27", installed.DELAYED_DELIVERY_EXCHANGE} <= set(declared)


def test_rules_of_a_later_celery_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_example.isolate(monkeypatch, tmp_path)
    facts = check_example.facts(check_example.load("", tmp_path), tmp_path)
    for line, expected in (((5, 4), ["WB101", "WB107", "WB108"]), ((5, 5), [])):
        monkeypatch.setattr(installed, "CELERY", line)
        report = check(facts)
        assert [rule.code for rule in report.later] == expected
        said = [shown for shown in text(report).splitlines() if shown.startswith("of Celery")]
        assert [shown.rpartition(": ")[2] for shown in said] == ([", ".join(expected)] if expected else [])
        assert [one["rule"] for one in report.to_json()["later"]] == expected


def test_every_rule_is_of_a_supported_line() -> None:
    lines = {tuple(map(int, line.split("."))) for line in matrix.LINES}
    assert {rule.celery for rule in RULES.values() if rule.celery} <= lines


def test_explain_says_when_a_worker_cannot_consume_a_quorum_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    for detects in (True, False):
        monkeypatch.setattr(installed, "DETECTS_QUORUM_QUEUES", detects)
        for task, is_quorum in (("resize", True), ("plain", False)):
            (arrival,) = explain_task(explained, f"explained.{task}", {}).arrivals
            said = any("can't consume a quorum queue on RabbitMQ before 4.3" in note for note in arrival.notes)
            assert said == (is_quorum and not detects)


@pytest.mark.parametrize("namespace", [None, "CELERY", "celery"])
def test_a_setting_is_overridden_whatever_its_namespace(namespace: str | None) -> None:
    app = Celery("app", set_as_current=False)
    names = {None: "task_always_eager", "CELERY": "CELERY_TASK_ALWAYS_EAGER", "celery": "celery_task_always_eager"}
    app.config_from_object({names[namespace]: True}, namespace=namespace)
    assert app.conf.task_always_eager is True
    before = dict(app.conf.changes)
    with suppress(KeyError), installed.settings_overridden(app, {"task_always_eager": False}):
        assert app.conf.task_always_eager is False
        raise KeyError
    assert app.conf.task_always_eager is True
    assert dict(app.conf.changes) == before


def test_an_eager_task_of_a_namespaced_application_is_not_run() -> None:
    app = Celery("app", set_as_current=False)
    app.config_from_object({"CELERY_TASK_ALWAYS_EAGER": True}, namespace="CELERY")
    ran: list[int] = []

    @app.task(name="t")
    def t() -> None:
        ran.append(1)

    assert explain_task(app, "t", {}).publication.routing_key == "celery"
    assert ran == []
    assert app.conf.task_always_eager is True


@before_native_delay
def test_a_quorum_queue_is_no_remedy_where_celery_does_not_delay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check_example.isolate(monkeypatch, tmp_path)
    facts = check_example.facts(check_example.load(RULES["WB102"].failing, tmp_path), tmp_path)
    (found,) = check(facts, select=["WB102"]).findings
    assert found.found.fix.startswith("a worker of their own; Celery")


@before_native_delay
def test_explain_says_what_a_later_celery_would_do() -> None:
    (remark,) = explain_task(explained, "explained.resize", {"countdown": 5}).remarks
    assert remark.endswith("from 5.5 on the delay is RabbitMQ's, since the application has a quorum queue")
    (remark,) = explain_task(explained, "explained.plain", {"countdown": 5}).remarks
    assert "RabbitMQ" not in remark  # a direct exchange: no Celery delays it natively


def test_the_floors_are_the_first_line() -> None:
    pinned = dict(floor.split("==") for floor in matrix.floors())
    assert pinned["celery"].startswith(matrix.LINES[0])
    assert pinned["kombu"].startswith(matrix.LINES[0])
    assert {"pytest", "pika", "testcontainers", "redis"} <= pinned.keys()
    supported = {
        f"{version.split('.')[0]}.{version.split('.')[1]}" for version in (celery.__version__, kombu.__version__)
    }
    assert supported <= set(matrix.LINES)


def test_the_oldest_python_is_the_one_that_is_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={matrix.PYTHONS[0]}"


def test_a_requirement_without_a_floor(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "p"\ndependencies = ["a>=1.0", "b"]\n[project.optional-dependencies]\ntest = []\n'
    )
    with pytest.raises(ValueError, match="expected name>=version, got 'b'"):
        matrix.floors(tmp_path / "pyproject.toml")


REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"/><testcase name="c"><skipped message="m"/></testcase>
<testcase name="d"><failure>x</failure></testcase><testcase name="e"><error>x</error></testcase>
</testsuite></testsuites>"""


def test_outcomes_of_a_report() -> None:
    assert matrix.counts(REPORT) == {"passed": 2, "skipped": 1, "failed": 2}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    note = matrix.Note("3.12", "5.5", tmp_path)
    note.clear()
    note.report("unit").write_text(REPORT)
    note.report("plugin").write_text('<testsuite><testcase name="f"/></testsuite>')
    note.installed()
    return tmp_path


def test_the_table_says_what_ran_and_what_did_not(notes: Path) -> None:
    shown = matrix.table(notes)
    versions = f"{celery.__version__} and {kombu.__version__}"
    assert f"| 5.5 ({versions}) | not run | 3 passed, 2 failed, 1 skipped | not run | not run |" in shown
    assert "| lowest | not run | - | - | - |" in shown
    assert "Linux" in shown or "Darwin" in shown


def test_the_table_is_written_between_its_markers(notes: Path) -> None:
    readme = notes / "README.md"
    readme.write_text(f"before\n{matrix.BEGIN}\nold\n{matrix.END}\nafter\n")
    made = matrix.write_table(readme, notes)
    assert readme.read_text() == f"before\n{matrix.BEGIN}\n{made}\n{matrix.END}\nafter\n"
    readme.write_text("before\nafter\n")
    with pytest.raises(ValueError, match=r"README.md: expected <!-- versions -->"):
        matrix.write_table(readme, notes)


def test_a_suite_without_a_report_has_not_passed(notes: Path) -> None:
    note = matrix.Note("3.12", "5.5", notes)
    assert not note.passed("unit")
    assert note.passed("plugin")
    note.report("plugin").unlink()
    assert not note.passed("plugin")
    assert "| 2 passed, 2 failed, 1 skipped, plugin tests: no report |" in matrix.table(notes)


def test_the_workflow_runs_every_python_of_the_matrix() -> None:
    told: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    assert told["jobs"]["matrix"]["strategy"]["matrix"]["python"] == list(matrix.PYTHONS)
