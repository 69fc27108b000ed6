"""Every rule's own examples: the failing one gives the finding, with the values in it, the fixed one gives none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Queue as KombuQueue

from tests.support import check_example
from tests.support.celery_lines import NO_NATIVE_DELAY
from tests.support.diff_support import PLACE
from tools import check_page
from waybill.celery_app import installed
from waybill.check import RULES, Facts, Finding, Severity, check, facts_of
from waybill.diff import declared_by, difference
from waybill.errors import InputError
from waybill.rabbitmq.management import LiveBinding
from waybill.topology import Binding

# code -> what the finding of the failing example says, or a piece of it
SAID = {
    "WB101": "`celery` is a quorum queue, so workers bind `pdf` to the headers exchange `documents` without arguments",
    "WB102": "with a delay, it waits in a worker of `celery`: after processes x 4 such tasks",
    "WB103": "exchange='signups' from the task's decorator is ignored: published to the default exchange",
    "WB104": "routing_key='gpu' from the task's decorator is ignored",
    "WB105": "with the routing key `us.weather`, which matches no binding there (of 1): the message is dropped; the "
    "nearest binding is `usa.#`",
    "WB106": "retries of `proj.push` reach `mail`, `push`, `log`: 3 + 9 + 27 runs",
    "WB107": "with a countdown it is published to `celery_delayed_27` with the routing key `0.0.0.",
    "WB108": "`small` gets it too, through the binding `#.resize` that workers make for delayed tasks",
    "WB109": "`celery`, `a`, `b` are bound to `celery` (topic) with the key `celery`",
    "WB110": "queue='resize' from the task's decorator and routing_key='pictures.crop' from task_routes, pattern",
    "WB111": "the application declares no queue `report`",
    "WB112": "`celery` is not in task_queues",
    "WB113": "`all` consumes `celery` and its application `other` doesn't know `proj.index`",
    "WB114": "`usa` is bound to `news` with `texas.#`, and the application doesn't declare this binding",
    "WB115": "sent by name, and only its decorator says queue='reports'",
    "WB116": "`proj.*` comes first and shadows `proj.videos.*` for `proj.videos.encode`",
    "WB117": "with the routing key `tasks.#`: `*` and `#` are plain words in a routing key, and it reaches `all`",
    "WB118": "`reports` consumes `report`, which the application doesn't declare",
    "WB119": "reaches `reports`, and no worker (of 1) consumes it",
    "WB120": "published to `nwes` with the routing key `usa.weather`",
    "WB121": "it is published mandatory and without confirms",
    "WB122": "no queue 'report' in the application; did you mean 'reports'?",
    "WB124": "published by name, and no task of that name is registered or defined here; did you mean "
    "`proj.send_receipt`?",
    "WB123": "3 messages wait in it and it has no consumer",
    "WB201": "406 inequivalent arg 'x-max-priority' for queue 'celery' in vhost '/': received the value '10' of type "
    "'signedint' but current is none",
    "WB202": "406 inequivalent arg 'x-queue-type' for queue 'celery' in vhost '/': received 'quorum' but current is "
    "'classic'",
    "WB203": "`news` is declared as topic and as fanout: 406 inequivalent arg 'type'",
    "WB204": "406 invalid arg 'x-max-priority' for queue 'celery' in vhost '/' of queue type rabbit_quorum_queue",
    "WB205": "durable=False and not exclusive",
    "WB206": "`one`, `two` all run `-n celery@%h`",
    "WB207": "406 Topic binding key '#.a.#.b.#' uses 3 '#' wildcards, at most 2 are allowed",
    "WB208": "is 256 bytes long, at most 255 are allowed",
    "WB209": "`x-max-prioritty` is no argument that RabbitMQ knows; it is ignored",
    "WB210": "its dead letters go to `dead`, which the application doesn't declare",
    "WB211": "its alternate exchange `unfiled` is one that the application doesn't declare",
    "WB216": "RabbitMQ refuses `news`: 406 unknown exchange type 'topci'; did you mean `topic`?",
    "WB212": "`delay` is of type `x-delayed-message`; this broker knows `direct`",
    "WB213": "declared 2 times, with the keys `usa.#`, `texas.#`: only the last counts, `texas.#`",
    "WB214": "406 inequivalent arg 'type' for exchange 'news' in vhost '/': received 'topic' but current is 'direct'",
    "WB215": "its dead letters go to `dead` with the key `celery`, and the bindings there: `dead`",
    "WB301": "priority=9 from the task's decorator has no effect: `celery` has no x-max-priority",
    "WB302": "time_limit=7200 s and `celery` waits 1800 s for an acknowledgement",
    "WB303": "a task that loses its worker goes back to `celery`, 20 times, and is then dropped",
    "WB304": "the Broadcast `everyone` is one queue, `everyone`, for which workers compete",
    "WB305": "with {'format': 'pdf'} it reaches `pdf`",
    "WB306": "the code uses a chord, and the result backend is rpc://",
    "WB307": "Celery doesn't know the setting `task_rutes` and ignores it; did you mean `task_routes`?",
    "WB308": "acknowledged late, but also acknowledged when their process is killed",
    "WB309": "each publication runs more than once, from `bcast.everyone`, under one id",
    "WB310": "tasks are acknowledged late so that none is lost, but published without confirms",
    "WB311": "priority=9 orders `celery`, but each process of a worker prefetches 4 + 1",
    "WB313": "priority=9 of the chain applies to its first task only: this one has 0",
    "WB314": "its code uses `Reject`, and acks_late is off: the message is acknowledged before the task runs",
    "WB315": "Celery can't load the result backend `django-db-typo`: No module named",
    "WB316": "after 1 s without a confirm it is published again, and the late confirm counts for another message",
    "WB317": "`stock` consumes `events` for tasks, and so does its bootstep `Stock`: each gets a part of the messages",
    "WB312": "the priorities 6, 9 are the same in `celery` on RabbitMQ 4.1: high",
    "WB217": "`celery` is exclusive, and publications of ",
    "WB318": "`celery` is a stream: every worker that consumes it runs ",
    "WB319": "one worker at a time gets the tasks of `celery`, and runs as many at once as it has processes",
    "WB320": "`all` consumes `orders` and `dead`, where the dead letters of `orders` go",
    "WB401": "`.#` doesn't match the key without a further word in `usa.#`",
    "WB402": "every call runs its task immediately",
    "WB403": "the broker is redis",
}


def findings(example: str, folder: Path) -> tuple[Finding, ...]:
    return check(check_example.facts(check_example.load(example, folder), folder)).findings


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


@pytest.mark.parametrize("code", sorted(RULES))
def test_the_failing_example_fails(code: str, tmp_path: Path) -> None:
    if not RULES[code].is_of_this_celery:
        pytest.skip(NO_NATIVE_DELAY)
    (found,) = (finding for finding in findings(RULES[code].failing, tmp_path) if finding.rule.code == code)
    assert SAID[code] in found.found.text
    assert found.found.fix
    assert all(found.found.objects)


@pytest.mark.parametrize("code", sorted(RULES))
def test_the_fixed_example_is_clean(code: str, tmp_path: Path) -> None:
    """Of this rule's findings, and of those of all others; a note is no fault."""
    if code == "WB102" and not installed.HAS_NATIVE_DELAY:
        pytest.skip(NO_NATIVE_DELAY)  # the example's remedy; the finding names another there
    found = findings(RULES[code].fixed, tmp_path)
    assert [finding.rule.code for finding in found if finding.rule.code == code] == []
    assert [finding for finding in found if finding.severity > Severity.NOTE] == []


# entries of task_routes, for proj.mail.send, proj.mail.sort and proj.clean -> severity and text of the finding
ENTRIES = (
    (["proj.mail.send"], None, ""),
    (["proj.*"], None, ""),
    (["proj.mail.*", "proj.*"], None, ""),
    (["proj.mail.sned"], "warning", "`proj.mail.sned` matches no registered task; did you mean `proj.mail.send`?"),
    (["send"], "warning", "`send` matches no registered task; did you mean `proj.mail.send`?"),
    (["proj.mail.sen.*"], "note", "`proj.mail.sen.*` matches no registered task; did you mean `proj.mail.send`?"),
    (["shop.*"], "note", "`shop.*` matches none of the registered tasks"),
    (["shop.*", "b.*"], "note", "`shop.*`, `b.*` match none of the registered tasks"),
    (list("abcdefg"), "note", "`a`, `b`, `c`, `d`, `e` and 2 more match none of the registered tasks"),
    (["*", "proj.mail.*"], "warning", "`*` comes first and shadows `proj.mail.*` for `proj.mail.send`"),
    (["*", "proj.clean"], None, ""),
    (["proj.mail.send", "proj.mail.sort", "proj.clean", "proj.*"], None, ""),
    (["proj.mail.*", "proj.clean", "*"], None, ""),
)


@pytest.mark.parametrize(("entries", "severity", "text"), ENTRIES)
def test_entries_of_task_routes(entries: list[str], severity: str | None, text: str, tmp_path: Path) -> None:
    example = f"""
app.conf.task_routes = dict.fromkeys({entries!r}, {{"queue": "celery"}})

def body(): ...

for name in ("proj.mail.send", "proj.mail.sort", "proj.clean"):
    app.task(name=name)(body)
"""
    found = [(one.severity.word, one.found.text) for one in findings(example, tmp_path)]
    assert len(found) == (severity is not None)
    assert all(how == severity and said.startswith(text) for how, said in found)


# entries of task_routes with regular expressions, for proj.mail.send and proj.clean -> the finding, or none
EXPRESSIONS = (
    ('re.compile("proj.mail"), "proj.*"', None),
    ('re.compile(r"(proj|shop)\\..*"), "proj.clean"', None),
    ('"proj.*", re.compile(".*mail")', "warning `proj.*` comes first and shadows `.*mail` for `proj.mail.send`"),
    ('re.compile(""), "proj.mail.*"', "warning `` comes first and shadows `proj.mail.*` for `proj.mail.send`"),
    ('re.compile("mail")', "note `mail` matches none of the registered tasks"),
    ('re.compile("proj.mail.sned")', "note `proj.mail.sned` matches none of the registered tasks"),
)


@pytest.mark.parametrize(("entries", "said"), EXPRESSIONS)
def test_regular_expressions_in_task_routes(entries: str, said: str | None, tmp_path: Path) -> None:
    example = f"""
import re
app.conf.task_routes = ([(key, {{"queue": "celery"}}) for key in ({entries},)],)

def body(): ...

for name in ("proj.mail.send", "proj.clean"):
    app.task(name=name)(body)
"""
    found = [f"{one.severity.word} {one.found.text}" for one in findings(example, tmp_path)]
    assert len(found) == (said is not None)
    assert all(one.startswith(str(said)) for one in found)


# how a task is retried -> whether it waits for it in a worker
RETRIES = (
    ("raise self.retry()", True),
    ("raise self.retry(countdown=0)", False),
    ("raise self.retry(queue=str(self), countdown=0)", False),
    ("raise self.retry(countdown=2 ** self.request.retries)", True),
    ("self.retry(countdown=0) if self else self.retry(countdown=5)", True),
    ("self.retry(eta=self)", True),
    ("self.default_retry_delay", False),
)


@pytest.mark.parametrize(("body", "waits"), RETRIES)
def test_a_retry_that_does_not_wait_stalls_nobody(body: str, waits: bool, tmp_path: Path) -> None:
    example = f"""
rabbitmq = "4.3"

@app.task(bind=True)
def fetch(self):
    {body}
"""
    assert [finding.rule.code for finding in findings(example, tmp_path)] == ["WB102"] * waits


# worker_concurrency, worker_prefetch_multiplier -> what WB102 and WB311 say of them
NUMBERS = (
    (2, 4, "2 x 4 = 8", "prefetches 4 + 1"),
    ("2", "4", "2 x 4 = 8", "prefetches 4 + 1"),
    ("auto", "4", "processes x 4 such", "prefetches 4 + 1"),
    (None, "0", None, "prefetches all that waits"),
)


@pytest.mark.parametrize(("concurrency", "multiplier", "held", "prefetched"), NUMBERS)
def test_settings_from_the_environment_are_text(
    concurrency: object, multiplier: object, held: str | None, prefetched: str, tmp_path: Path
) -> None:
    example = f"""
rabbitmq = "4.3"
app.conf.task_queue_max_priority = 10
app.conf.worker_concurrency, app.conf.worker_prefetch_multiplier = {concurrency!r}, {multiplier!r}

@app.task(bind=True, priority=9)
def fetch(self):
    raise self.retry(countdown=60)
"""
    said = {one.rule.code: one.found.text for one in findings(example, tmp_path)}
    assert (held is None and "WB102" not in said) or str(held) in said["WB102"]
    assert prefetched in said["WB311"]


def test_a_multiplier_that_is_no_number(tmp_path: Path) -> None:
    module = check_example.load("app.conf.worker_prefetch_multiplier = 'many'", tmp_path)
    with pytest.raises(InputError, match="worker_prefetch_multiplier: expected a whole number, got 'many'"):
        facts_of(module.app)


def test_what_beat_sends_is_checked(tmp_path: Path) -> None:
    example = """
app.conf.task_queues = [Queue("celery"), Queue("reports")]
app.conf.beat_schedule = {"nightly": {"task": "proj.report", "schedule": 60, "options": {"queue": "report"}}}

@app.task(name="proj.report")
def report(): ...
"""
    (found,) = findings(example, tmp_path)
    assert (found.rule.code, found.found.where) == ("WB111", "beat_schedule 'nightly'")


# options of an entry of beat_schedule -> the countdown that its publication is checked with
COUNTDOWNS: tuple[tuple[str, object], ...] = (
    ('{"countdown": 10}', 10),
    ('{"eta": object()}', 60),
    ('{"countdown": None, "queue": "celery"}', None),
    ('{"countdown": None}', None),
)


@pytest.mark.parametrize(("options", "countdown"), COUNTDOWNS)
def test_what_beat_delays_waits_in_a_worker(options: str, countdown: object, tmp_path: Path) -> None:
    example = f"""
rabbitmq = "4.3"
app.conf.beat_schedule = {{"nightly": {{"task": "proj.report", "schedule": 60, "options": {options}}}}}

@app.task(name="proj.report")
def report(): ...
"""
    module = check_example.load(example, tmp_path)
    (call,) = facts_of(module.app).calls
    assert call.options.get("countdown") == countdown
    found = check(check_example.facts(module, tmp_path), select=["WB102"]).findings
    assert [one.found.where for one in found] == ["beat_schedule 'nightly'"] * (countdown is not None)


# the task of an entry of beat_schedule -> what is said of it where proj.report is registered
SCHEDULED = (
    ("proj.report", None),
    ("celery.backend_cleanup", None),
    ("proj.reprot", "warning beat sends it, and no such task is registered; did you mean `proj.report`?"),
    ("report", "warning beat sends it, and no such task is registered; did you mean `proj.report`?"),
    ("shop.count", "note beat sends it, and no such task is registered"),
)


@pytest.mark.parametrize(("task", "said"), SCHEDULED)
def test_a_schedule_of_a_task_that_is_not_there(task: str, said: str | None, tmp_path: Path) -> None:
    example = f"""
app.conf.beat_schedule = {{"nightly": {{"task": "{task}", "schedule": 60}}}}

@app.task(name="proj.report")
def report(): ...
"""
    found = findings(example, tmp_path)
    assert [f"{one.severity.word} {one.found.text}" for one in found] == ([said] if said else [])
    assert {one.found.where for one in found} <= {"beat_schedule 'nightly'"}


def test_the_page_is_what_the_rules_say() -> None:
    assert check_page.PAGE.read_text(encoding="utf-8") == check_page.page(), "run python -m tools.check_page"
    assert all(code.startswith(tuple(check_page.FAMILIES)) for code in RULES)


def test_what_is_ignored_and_not_found_is_said() -> None:
    app = Celery("proj", set_as_current=False)
    reasons = {"WB105:nonsense": "mistyped", "WB202": "not checked here"}
    assert check(Facts(facts_of(app)), accepted=reasons).unused == ("WB105:nonsense",)


def test_a_default_queue_type_is_not_that_of_a_queue_that_goes_with_its_connection() -> None:
    """RabbitMQ makes such a queue classic, whatever the vhost's default."""
    app = Celery("proj", set_as_current=False)
    app.conf.task_queues = [KombuQueue("celery"), KombuQueue("mine", auto_delete=True)]
    live = replace(check_example.existing(app.conf.task_queues, {}), default_queue_type="quorum")
    found = check(Facts(facts_of(app), live=live), select=["WB202"]).findings
    assert [finding.found.objects for finding in found] == [("celery",)]


LONG = {"consumer-timeout": 10_000_000}
# Policies -> whether a task of 2 hours is longer than the timeout of the quorum queue `celery`.
TIMEOUTS: tuple[tuple[list[dict[str, Any]], bool], ...] = (
    ([], True),
    ([{"pattern": "^cel", "definition": LONG, "apply-to": "quorum_queues"}], False),
    ([{"pattern": "^cel", "definition": LONG, "apply-to": "classic_queues", "priority": 9}], True),
    ([{"pattern": "(?<name>cel)", "definition": LONG}], True),  # Python's `re` can't read it
    ([{"pattern": "^cel", "definition": "x", "priority": "high"}], True),
)


@pytest.mark.parametrize(("policies", "is_too_long"), TIMEOUTS)
def test_the_timeout_of_the_policy_that_applies(
    policies: list[dict[str, Any]], is_too_long: bool, tmp_path: Path
) -> None:
    example = """
app.conf.task_queues = lives = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]

@app.task(acks_late=True, time_limit=7200)
def train(): ...
"""
    module = check_example.load(example, tmp_path)
    live = check_example.existing(module.lives, {}, policies=policies)
    found = check(check_example.facts(module, tmp_path, live), select=["WB302"]).findings
    assert len(found) == is_too_long


ONCE = """
app.conf.task_queues = [Queue("celery"), Queue("once", Exchange("once", "x-message-deduplication"), "once")]
lives = [Queue("celery")]
"""


@pytest.mark.parametrize(("is_enabled", "expected"), [(True, "WB216 note"), (False, "WB212 error")])
def test_the_brokers_own_types_decide(is_enabled: bool, expected: str, tmp_path: Path) -> None:
    module = check_example.load(ONCE, tmp_path)
    live = check_example.existing(module.lives, {})
    types = live.exchange_types | ({"x-message-deduplication"} if is_enabled else set())
    facts = check_example.facts(module, tmp_path, replace(live, exchange_types=types))
    found = check(facts, select=["WB120", "WB2"]).findings
    assert [f"{one.rule.code} {one.severity.word}" for one in found] == [expected]
    predicted = difference(declared_by(module.app), replace(live, exchange_types=types), PLACE)
    assert bool(predicted.failures) != is_enabled


BY_POLICY = """
app.conf.task_queues = [Queue("ledger", Exchange("money", "topic"), "money.#")]
app.conf.task_default_queue = "ledger"
lives = [Queue("lost", Exchange("lost", "fanout"), "any")]

@app.task(exchange="money", routing_key="coins.eur")
def book(): ...
"""
ALTERNATE = {"name": "ae", "pattern": "^money$", "apply-to": "exchanges", "definition": {"alternate-exchange": "lost"}}
GRAVES = {"name": "dlx", "pattern": "^led", "apply-to": "queues", "definition": {"dead-letter-exchange": "graveyard"}}
ELSEWHERE = {**ALTERNATE, "definition": {"alternate-exchange": "nowhere"}}


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], ["WB105"]),
        ([ALTERNATE], []),  # `money` is not there yet: the policy takes it when it is declared
        ([{**ALTERNATE, "apply-to": "queues"}], ["WB105"]),
        ([ELSEWHERE], ["WB105", "WB211"]),
        ([ALTERNATE, GRAVES], ["WB210"]),
        ([ALTERNATE, {**GRAVES, "apply-to": "quorum_queues"}], []),
    ],
)
def test_what_policies_change(policies: list[dict[str, Any]], expected: list[str], tmp_path: Path) -> None:
    module = check_example.load(BY_POLICY, tmp_path)
    live = check_example.existing(module.lives, {}, policies=policies)
    facts = check_example.facts(module, tmp_path, live)
    found = check(facts, select=["WB105", "WB21"]).findings
    assert [finding.rule.code for finding in found] == expected
    assert all("by the policy `" in one.found.text for one in found if one.rule.code != "WB105")


NEWS = """
news = Exchange("news", "topic")
app.conf.task_queues = [Queue("celery"), Queue("usa", news, "usa.#"), Queue("pdf", Exchange("documents", "headers"))]
lives = app.conf.task_queues
"""
# A binding that lives beside the declared ones -> what the finding says and its fix; the same as for `waybill diff`.
LEFT = (
    (Binding("news", "usa", "#.usa.#"), "", ""),
    (
        Binding("news", "usa", "#.texas"),
        "`usa` is bound to `news` with `#.texas`, and the application doesn't declare this binding",
        'channel.queue_unbind("usa", "news", "#.texas")',
    ),
    (
        Binding("documents", "pdf", "any", {"format": "pdf", "x-match": "all"}),
        "`pdf` is bound to `documents` with `any` [format=pdf, x-match=all], and",
        'channel.queue_unbind("pdf", "documents", "any", arguments={"format": "pdf", "x-match": "all"})',
    ),
    (
        Binding("elsewhere", "news", "x", destination_type="exchange"),
        "the exchange `news` is bound to `elsewhere` with `x`, and",
        'channel.exchange_unbind("news", "elsewhere", "x")',
    ),
    (Binding("news", "other", "x"), "", ""),
)


@pytest.mark.parametrize(("left", "text", "fix"), LEFT)
def test_a_stale_binding_and_how_it_goes(left: Binding, text: str, fix: str, tmp_path: Path) -> None:
    module = check_example.load(NEWS, tmp_path)
    known = check_example.facts(module, tmp_path)
    assert known.live is not None
    live = replace(known.live, bindings=(*known.live.bindings, LiveBinding(left)))
    found = check(replace(known, live=live), select=["WB114"]).findings
    assert len(difference(declared_by(module.app), live, PLACE).stale) == len(found)
    assert [one.found.fix for one in found] == ([fix] if fix else [])
    assert all(one.found.text.startswith(text) for one in found)
