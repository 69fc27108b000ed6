"""What the rules about declarations say, happens: the broker refuses with the very sentence, or accepts and ignores."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from amqp.exceptions import AMQPError
from kombu import Connection

from tests.support import check_example
from tests.support.check_live import Rig
from tests.support.programs import PATIENCE
from waybill.check import RULES, Facts, LiveFacts, check, facts_of
from waybill.rabbitmq.management import Management
from waybill.rabbitmq.state import live_facts
from waybill.testing.brokers import Address


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


@pytest.fixture
def rig(waybill_broker: Address, tmp_path: Path) -> Callable[[str], Any]:
    """Makes an example's application stand at a vhost of its own."""
    return lambda example: check_example.standing(waybill_broker, example, tmp_path)


def refusal(rig: Rig) -> str:
    """What the broker answers when the application declares; empty where it accepts."""
    try:
        with Connection(rig.address.url) as connection, connection.channel() as channel:
            for queue in rig.app.amqp.queues.values():
                queue(channel).declare()
    except AMQPError as error:
        return str(error.reply_text).partition(" - ")[2]
    return ""


@pytest.mark.parametrize("code", ["WB203", "WB204", "WB207", "WB216"])
def test_a_declaration_is_refused(rig: Any, code: str) -> None:
    with rig(RULES[code].failing) as made:
        (finding,) = check(Facts(facts_of(made.app)), select=[code]).findings
        said = refusal(made)
        assert said
        assert said in finding.found.text
    with rig(RULES[code].fixed) as made:
        assert refusal(made) == ""


def test_a_key_is_too_long(rig: Any) -> None:
    """WB208: the client itself can't write it."""
    with rig(RULES["WB208"].failing) as made, pytest.raises(struct.error):
        made.declare()
    with rig(RULES["WB208"].fixed) as made:
        assert refusal(made) == ""


def live_facts_of(rig: Rig) -> LiveFacts:
    """What lives, as the management API says."""
    assert rig.address.management_url is not None
    with Management(rig.address.management_url, rig.address.vhost) as management:
        return live_facts(management, rig.address.vhost)


@pytest.mark.parametrize("code", ["WB201", "WB202", "WB214"])
def test_what_lives_is_other(rig: Any, code: str) -> None:
    for example, is_refused in ((RULES[code].failing, True), (RULES[code].fixed, False)):
        with rig(example) as made:
            for queue in made.module.lives:
                queue(made.channel).declare()
            found = check(Facts(facts_of(made.app), None, live_facts_of(made)), select=["WB20", "WB21"]).findings
            said = refusal(made)
            assert bool(said) == is_refused
            assert [finding.rule.code for finding in found if said in finding.found.text] == [code] * is_refused


def test_a_type_that_the_broker_lacks(rig: Any) -> None:
    """WB212."""
    with rig(RULES["WB212"].failing) as made:
        facts = Facts(facts_of(made.app), None, live_facts_of(made))
        findings = check(facts, select=["WB212"]).findings
        if made.address.is_embedded:  # which has it
            made.declare()
            assert not findings
        else:
            with pytest.raises(AMQPError):
                made.declare()
            assert "`x-delayed-message`; this broker knows `direct`, `fanout`" in findings[0].found.text


def test_a_stale_binding_leads_on(rig: Any) -> None:
    """WB114: declared anew without it, the queue still gets what the old binding takes."""
    for example, landed in ((RULES["WB114"].failing, {"usa": 1}), (RULES["WB114"].fixed, {})):
        with rig(example) as made:
            for queue in made.module.lives:
                queue(made.channel).declare()
            made.declare()
            made.publish("news", "texas.weather")
            assert made.held() == landed
            found = check(Facts(facts_of(made.app), None, live_facts_of(made)), select=["WB114"]).findings
            assert [finding.found.objects for finding in found] == [("usa", "news", "texas.#")] * len(landed)


HEADERS = """
documents = Exchange("documents", "headers")
app.conf.task_queues = [Queue("celery"), Queue("all", documents, "any", binding_arguments={"x-match": "all", "n": 2})]
lives = [Queue("all", documents, "any", binding_arguments={"x-match": "all", "n": 1})]
"""


def test_the_fix_of_a_stale_binding_unbinds(rig: Any) -> None:
    """WB114: a binding with arguments is one with exactly these."""
    with rig(HEADERS) as made:
        made.module.lives[0](made.channel).declare()
        made.declare()
        (finding,) = check(Facts(facts_of(made.app), None, live_facts_of(made)), select=["WB114"]).findings
        made.publish("documents", headers={"n": 1})
        assert made.held() == {"all": 1}
        exec(finding.found.fix, {"channel": made.channel})
        made.publish("documents", headers={"n": 1})
        assert made.held() == {}


def test_a_misspelt_argument_does_nothing(rig: Any) -> None:
    """WB209, and WB301: without x-max-priority the queue is first in, first out."""
    for example, order in ((RULES["WB209"].failing, [1, 9]), (RULES["WB209"].fixed, [9, 1])):
        with rig(example) as made:
            made.declare()
            for priority in (1, 9):
                made.publish("", "celery", priority=priority)
            assert [message.properties["priority"] for message in made.taken("celery")] == order


def test_a_quorum_queue_has_more_than_two_priorities(rig: Any) -> None:
    """WB312: from RabbitMQ 4.3 on 9 comes before 6; what older ones did is in RabbitMQ's documentation."""
    with rig(RULES["WB312"].fixed) as made:
        made.declare()
        for priority in (6, 9):
            made.publish("", "celery", priority=priority)
        assert [message.properties["priority"] for message in made.taken("celery")] == [9, 6]


def test_messages_wait_that_nobody_consumes(rig: Any) -> None:
    """WB123: what was published is still there, and the broker's own count says so."""
    with rig(RULES["WB123"].failing) as made:
        made.declare()
        for _ in range(3):
            made.publish("", "celery")
        live = counted(made, "celery", 3)
        (finding,) = check(Facts(facts_of(made.app), None, live), select=["WB123"]).findings
        assert finding.found.text == "3 messages wait in it and it has no consumer"
        assert made.held() == {"celery": 3}


def counted(rig: Rig, queue: str, count: int) -> LiveFacts:
    """What lives, when the management API has counted the messages: it samples them every few seconds."""
    deadline = monotonic() + PATIENCE
    while (live := live_facts_of(rig)).messages.get(queue) != count and monotonic() < deadline:
        sleep(0.2)
    return live


def test_a_check_only_reads(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(RULES["WB201"].failing) as made:
        asked: list[str] = []
        send = Management._send

        def recorded(self: Management, how: str, *rest: Any) -> Any:
            asked.append(how)
            return send(self, how, *rest)

        monkeypatch.setattr(Management, "_send", recorded)
        live_facts_of(made)
        assert set(asked) == {"GET"}
