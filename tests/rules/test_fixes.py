"""Each finding's fix, done to the rule's example: the finding is gone, nothing new is found, the message arrives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import check_example
from waybill.check import RULES, Finding, Severity, check, gather
from waybill.testing.brokers import Address

# code -> a piece of the fix, what of the failing example is changed, and into what: the piece, where it is code
EDITS: dict[str, tuple[str, str, str]] = {
    "WB101": ("a topic exchange", '"headers"', '"topic"'),
    "WB102": (
        'a quorum queue on a topic exchange, queue_arguments={"x-queue-type": "quorum"}',
        "\n@app.task",
        'app.conf.task_queues = [Queue("celery", Exchange("work", "topic"), "work", '
        'queue_arguments={"x-queue-type": "quorum"})]\n@app.task',
    ),
    "WB103": (
        "app.conf.task_routes = {'proj.welcome': {'exchange': 'signups', 'exchange_type': 'fanout'}}",
        "@app.task",
        "app.conf.task_routes = {'proj.welcome': {'exchange': 'signups', 'exchange_type': 'fanout'}}\n@app.task",
    ),
    "WB104": ('queue="gpu"', 'routing_key="gpu"', 'queue="gpu"'),
    "WB105": ('routing_key="..." that `usa.#` takes', '"us.weather"', '"usa.weather"'),
    "WB106": ("max_retries=0", "max_retries=2", "max_retries=0"),
    "WB107": ('queue="log"', 'exchange="work", routing_key="log"', 'queue="log"'),
    "WB108": ('a binding key for "small"', '"resize", queue_arguments', '"small.size", queue_arguments'),
    "WB109": (
        'Queue("b", routing_key="b")',
        'Queue("a"), Queue("b")',
        'Queue("a", routing_key="a"), Queue("b", routing_key="b")',
    ),
    "WB110": (
        "take `routing_key` out of task_routes",
        'app.conf.task_routes = {"proj.*": {"routing_key": "pictures.crop"}}',
        "",
    ),
    "WB111": ('queue="reports"', 'queue="report"', 'queue="reports"'),
    "WB112": (
        'app.conf.task_default_queue = "images"',
        "\n@app.task",
        'app.conf.task_default_queue = "images"\n@app.task',
    ),
    "WB113": ("import the task's module in `other`", "-A other", "-A proj"),
    "WB114": ('channel.queue_unbind("usa", "news", "texas.#")', 'binding(news, "texas.#")', ""),
    "WB115": (
        "app.conf.task_routes = {'proj.index': {'queue': 'reports'}}",
        '@app.task(name="proj.index", queue="reports")',
        "app.conf.task_routes = {'proj.index': {'queue': 'reports'}}\n@app.task(name=\"proj.index\")",
    ),
    "WB116": (
        "put 'proj.videos.*' before 'proj.*' in task_routes",
        '{"proj.*": {"queue": "all"}, "proj.videos.*": {"queue": "videos"}}',
        '{"proj.videos.*": {"queue": "videos"}, "proj.*": {"queue": "all"}}',
    ),
    "WB117": ('routing_key="..." without wildcards', 'queue="all"', 'queue="all", routing_key="tasks.index"'),
    "WB118": ("-Q reports", "-Q celery,report", "-Q celery,reports"),
    "WB119": ("celery -A proj worker -n all@%h -Q celery,reports", "-Q celery", "-Q celery,reports"),
    "WB120": ('exchange="news"', 'exchange="nwes"', 'exchange="news"'),
    "WB121": (
        'app.conf.broker_transport_options = {"confirm_publish": True}',
        "@app.task",
        'app.conf.broker_transport_options = {"confirm_publish": True}\n@app.task',
    ),
    "WB122": ('queue="reports"', 'queue="report"', 'queue="reports"'),
    "WB123": ("celery -A proj worker -Q celery", 'waiting = {"celery": 3}', ""),
    "WB124": ('"proj.send_receipt"', '"proj.send_reciept"', '"proj.send_receipt"'),
    "WB201": ("no x-max-priority", ', queue_arguments={"x-max-priority": 10}', ""),
    "WB202": ("declare it as it is on the broker", 'queue_arguments={"x-queue-type": "quorum"}', ""),
    "WB203": (
        'news = Exchange("news", "topic"), once',
        'Queue("log", Exchange("news", "fanout"), "any")',
        'Queue("log", Exchange("news", "topic"), "any")',
    ),
    "WB204": (
        "app.conf.task_queue_max_priority = None",
        "app.conf.task_queue_max_priority = 10",
        "app.conf.task_queue_max_priority = None",
    ),
    "WB205": (
        'Queue("scratch", durable=True, expires=3600)',
        'Queue("scratch", durable=False)',
        'Queue("scratch", durable=True, expires=3600)',
    ),
    "WB206": (
        "-n one@%h and -n two@%h",
        "one: celery -A proj worker -Q celery\ntwo: celery -A proj worker",
        "one: celery -A proj worker -n one@%h -Q celery\ntwo: celery -A proj worker -n two@%h",
    ),
    "WB207": ("a binding key or arguments that the sentence allows", "#.a.#.b.#", "#.a.b.#"),
    "WB208": ("a shorter one", '"k" * 256', '"k" * 199'),
    "WB209": ('queue_arguments={"x-max-priority": 10}', "x-max-prioritty", "x-max-priority"),
    "WB210": (
        'Queue("celery_dead", Exchange("dead", "fanout"), "any") in task_queues',
        'queue_arguments={"x-dead-letter-exchange": "dead"})]',
        'queue_arguments={"x-dead-letter-exchange": "dead"}), Queue("celery_dead", Exchange("dead", "fanout"), "any")]',
    ),
    "WB211": (
        'Queue("unfiled", Exchange("unfiled", "fanout"), "any") in task_queues',
        'Queue("usa", news, "usa.#")]',
        'Queue("usa", news, "usa.#"), Queue("unfiled", Exchange("unfiled", "fanout"), "any")]',
    ),
    "WB212": (
        "or another type",
        'Exchange("delay", "x-delayed-message", arguments={"x-delayed-type": "direct"})',
        'Exchange("delay", "direct")',
    ),
    "WB213": (
        '[binding(exchange, "usa.#"), binding(exchange, "texas.#")]',
        'Queue("usa", news, "usa.#"), Queue("usa", news, "texas.#")',
        'Queue("usa", [binding(news, "usa.#"), binding(news, "texas.#")])',
    ),
    "WB214": (
        'Exchange("news", "direct"), as on the broker',
        'Exchange("news", "topic")',
        'Exchange("news", "direct")',
    ),
    "WB215": (
        '"x-dead-letter-routing-key": "dead"',
        '{"x-dead-letter-exchange": "dead"}',
        '{"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "dead"}',
    ),
    "WB216": ('Exchange("news", "topic")', 'Exchange("news", "topci")', 'Exchange("news", "topic")'),
    "WB217": ('Queue("celery", ...) without exclusive', ", exclusive=True", ""),
    "WB301": (
        '"x-max-priority": 10 in the queue_arguments of `celery`; app.conf.worker_prefetch_multiplier = 1; '
        "app.conf.task_acks_late = True",
        "@app.task",
        'app.conf.task_queues = [Queue("celery", queue_arguments={"x-max-priority": 10})]\n'
        "app.conf.worker_prefetch_multiplier = 1; app.conf.task_acks_late = True\n@app.task",
    ),
    "WB302": ("time_limit=1620", "time_limit=7200", "time_limit=1620"),
    "WB303": (
        '"x-dead-letter-exchange": "..."',
        '"quorum"})]',
        '"quorum", "x-dead-letter-exchange": "dead"}), Queue("dead_letters", Exchange("dead", "fanout"), "any")]',
    ),
    "WB304": ('Broadcast("everyone")', 'Broadcast("everyone", queue="everyone")', 'Broadcast("everyone")'),
    "WB305": (
        'Exchange("documents", "headers", arguments={"alternate-exchange": "unfiled"})',
        'Queue("pdf", Exchange("documents", "headers")',
        'Queue("unfiled", Exchange("unfiled", "fanout"), "any"), '
        'Queue("pdf", Exchange("documents", "headers", arguments={"alternate-exchange": "unfiled"})',
    ),
    "WB306": ('app.conf.result_backend = "redis://', '"rpc://"', '"redis://localhost"'),
    "WB307": ("task_routes", "task_rutes", "task_routes"),
    "WB308": (
        "app.conf.task_reject_on_worker_lost = True",
        "\n@app.task",
        "app.conf.task_reject_on_worker_lost = True\n@app.task",
    ),
    "WB309": (
        "@app.task(ignore_result=True)",
        '@app.task(name="proj.reload")',
        '@app.task(name="proj.reload", ignore_result=True)',
    ),
    "WB310": (
        'app.conf.broker_transport_options = {"confirm_publish": True}',
        "app.conf.task_acks_late = True",
        'app.conf.task_acks_late = True\napp.conf.broker_transport_options = {"confirm_publish": True}',
    ),
    "WB311": (
        "app.conf.worker_prefetch_multiplier = 1; app.conf.task_acks_late = True",
        "\n@app.task",
        "app.conf.worker_prefetch_multiplier = 1; app.conf.task_acks_late = True\n@app.task",
    ),
    "WB312": ("RabbitMQ 4.3", 'rabbitmq = "4.1"', 'rabbitmq = "4.3"'),
    "WB313": (
        "app.conf.task_inherit_parent_priority = True",
        "\n@app.task",
        "app.conf.task_inherit_parent_priority = True\n@app.task",
    ),
    "WB314": ("@app.task(acks_late=True)", "@app.task\n", "@app.task(acks_late=True)\n"),
    "WB315": ("mend the name", "django-db-typo", "cache+memory://"),
    "WB316": ("no confirm_timeout", "confirm_timeout=1", ""),
    "WB317": ("-Q celery", "-Q events", "-Q celery"),
    "WB318": ('queue_arguments={"x-queue-type": "quorum"}', '"stream"', '"quorum"'),
    "WB319": (
        "celery -A proj worker -Q celery -c 1",
        "\n@app.task",
        'fleet = "w: celery -A proj worker -Q celery -c 1"\n@app.task',
    ),
    "WB320": ("-X dead for that worker", "-n all@%h", "-n all@%h -X dead"),
    "WB401": ("with waybill.broker.Broker() as broker", '"memory://"', '"amqp://"'),
    "WB402": ("a worker and the embedded broker", "app.conf.task_always_eager = True", ""),
    "WB403": ('app.conf.broker_url = "amqp://', "redis://localhost", "amqp://localhost"),
}

# code -> what is found of the mended example beside it, and why that is so
ALSO = {
    "WB320": ({"WB210"}, "the fix says so: now no worker declares `dead`, `waybill declare` does"),
}

# code -> the task that arrives when the fix is done
ARRIVES = {
    "WB103": "welcome",
    "WB104": "render",
    "WB105": "report",
    "WB107": "log",
    "WB110": "resize",
    "WB111": "report",
    "WB120": "report",
    "WB122": "report",
    "WB217": "report",
    "WB301": "urgent",
}


def mended(code: str) -> str:
    """The failing example with its fix done."""
    _, old, new = EDITS[code]
    assert RULES[code].failing.count(old) >= 1, old
    return RULES[code].failing.replace(old, new, 1)


def found(code: str, folder: Path) -> list[Finding]:
    """What is found of an example by all rules."""
    return list(check(check_example.facts(check_example.load(code, folder), folder)).findings)


@pytest.mark.parametrize("code", EDITS)
def test_the_fix_fixes(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not RULES[code].is_of_this_celery:
        pytest.skip("this is about a later Celery")
    check_example.isolate(monkeypatch, tmp_path)
    before = found(RULES[code].failing, tmp_path)
    for path in tmp_path.glob("waybill_example_*.py"):  # its calls aren't those of the mended one
        path.unlink()
    fixes = [one.found.fix for one in before if one.rule.code == code]
    assert any(EDITS[code][0] in fix for fix in fixes), fixes
    after = found(mended(code), tmp_path)
    allowed, _ = ALSO.get(code, (set(), ""))
    known = {one.rule.code for one in before} - {code} | allowed
    assert [one for one in after if one.severity > Severity.NOTE and one.rule.code not in known] == []
    assert code not in {one.rule.code for one in after}


def test_every_rule_has_its_fix_done() -> None:
    assert sorted(EDITS) == sorted(RULES)


@pytest.mark.parametrize(("code", "task"), ARRIVES.items(), ids=list(ARRIVES))
def test_the_message_arrives(code: str, task: str, waybill_broker: Address, tmp_path: Path, monkeypatch: Any) -> None:
    check_example.isolate(monkeypatch, tmp_path)
    with check_example.standing(waybill_broker, mended(code), tmp_path) as made:
        made.declare()
        made.send(task)
        assert sum(made.held().values()) == 1


NAMESPACED = """
app = Celery("shop", set_as_current=False)
app.config_from_object("settings", namespace="CELERY")
@app.task(name="shop.report", {options})
def report(): ...
"""
SETTINGS = """
from kombu import Exchange, Queue
CELERY_BROKER_URL = "amqp://"
CELERY_TASK_DEFAULT_QUEUE = "orders"
CELERY_TASK_QUEUES = [
    Queue("orders"), Queue("usa", Exchange("news", "topic"), "usa.#"), Queue("log", Exchange("log", "fanout"), "any")
]
"""

# the options of a task in an application of another name whose settings have a namespace, the setting -> its fix
OWN_WORDS: tuple[tuple[str, str, str], ...] = (
    ('exchange="log"', "", """CELERY_TASK_ROUTES = {'shop.report': {'exchange': 'log', 'exchange_type': 'fanout'}}"""),
    (
        'exchange="log"',
        "CELERY_TASK_ROUTES = {'other': 'log'}",
        "{'shop.report': {'exchange': 'log', 'exchange_type': 'fanout'}} in CELERY_TASK_ROUTES",
    ),
    ("mandatory=True", "", 'CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}'),
    (
        "mandatory=True",
        "CELERY_BROKER_TRANSPORT_OPTIONS = {'max_retries': 3}",
        '"confirm_publish": True in CELERY_BROKER_TRANSPORT_OPTIONS',
    ),
    ('queue="ordesr"', "", 'queue="orders"; CELERY_TASK_CREATE_MISSING_QUEUES = False makes a misspelling an error'),
    ('queue="log"', "", "celery -A shop.app worker -n w@%h -Q orders,log"),
    (
        'exchange="money", routing_key="eur"',
        "",
        "the application whose workers consume from `money` declares it: start it first, and check both with a second "
        "-A",
    ),
    ("", "CELERY_TASK_ROUTES = [('shop.*', 'usa')]", "CELERY_TASK_ROUTES = ([('shop.*', 'usa')],)"),
)


@pytest.mark.parametrize(("options", "setting", "fix"), OWN_WORDS)
def test_a_fix_speaks_the_applications_language(
    options: str, setting: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_example.isolate(monkeypatch, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "settings", raising=False)
    (tmp_path / "settings.py").write_text(f"{SETTINGS}{setting}\n")
    module = check_example.load(NAMESPACED.format(options=options), tmp_path)
    (tmp_path / "Procfile").write_text("w: celery -A shop.app worker -n w@%h -Q orders")
    fleet = [tmp_path / "Procfile"] if options == 'queue="log"' else ()
    facts = gather(module.app, name="shop.app", fleet=fleet)
    assert fix in [one.found.fix for one in check(facts).findings]
