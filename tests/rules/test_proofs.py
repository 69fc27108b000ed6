"""Which test makes happen what a rule says, on RabbitMQ and where it can on the embedded broker; and what none does."""

from __future__ import annotations

import ast

import pytest

from tests.support.programs import ROOT
from waybill.check import RULES

# test file -> test -> the codes of the rules that it makes happen
PROVEN: dict[str, dict[str, tuple[str, ...]]] = {
    "test_landing": {
        "test_where_it_lands": (
            *("WB101", "WB103", "WB104", "WB105", "WB108", "WB109", "WB110", "WB111", "WB112", "WB115", "WB116"),
            *("WB119", "WB210", "WB211", "WB213", "WB215", "WB303", "WB305", "WB307", "WB402"),
        ),
        "test_a_countdown_changes_the_queue": ("WB107",),
        "test_the_key_of_a_message_is_no_pattern": ("WB117",),
        "test_an_exchange_that_is_not_there": ("WB120", "WB310"),
        "test_mandatory_alone_tells_nobody": ("WB121",),
        "test_celery_refuses": ("WB122",),
        "test_a_confirm_that_comes_late": ("WB316",),
        "test_a_result_backend_that_is_not_there": ("WB315",),
    },
    "test_declaring": {
        "test_a_declaration_is_refused": ("WB203", "WB204", "WB207", "WB216"),
        "test_a_key_is_too_long": ("WB208",),
        "test_what_lives_is_other": ("WB201", "WB202", "WB214"),
        "test_a_type_that_the_broker_lacks": ("WB212",),
        "test_a_stale_binding_leads_on": ("WB114",),
        "test_a_misspelt_argument_does_nothing": ("WB209", "WB301"),
        "test_messages_wait_that_nobody_consumes": ("WB123",),
    },
    "test_working": {
        "test_a_retry_multiplies": ("WB106",),
        "test_delayed_tasks_stall_a_worker": ("WB102",),
        "test_prefetch_hides_the_priority": ("WB311",),
        "test_a_worker_discards_what_it_does_not_know": ("WB113",),
        "test_a_worker_discards_a_misspelt_name": ("WB124",),
        "test_a_step_shares_its_queue": ("WB317",),
        "test_a_chain_keeps_its_priority_for_the_first": ("WB313",),
        "test_a_rejection_needs_late_acks": ("WB314",),
        "test_a_worker_creates_the_queue_that_it_misspells": ("WB118",),
        "test_two_workers_of_one_name": ("WB206",),
        "test_a_broadcast_with_a_name_is_shared": ("WB304",),
        "test_copies_have_one_id": ("WB309",),
        "test_a_backend_that_cannot_count": ("WB306",),
        "test_memory_is_not_rabbitmq": ("WB401",),
        "test_a_killed_process_is_acknowledged": ("WB308",),
        "test_a_task_outlasts_the_consumer_timeout": ("WB302",),
        "test_an_exclusive_queue_is_locked": ("WB217",),
        "test_a_stream_is_read_by_each_worker": ("WB318",),
        "test_a_single_active_consumer_runs_tasks_side_by_side": ("WB319",),
        "test_a_worker_runs_its_own_dead_letters": ("WB320",),
    },
    "test_brokers": {
        "test_a_broker_that_denies_transient_queues": ("WB205",),
        "test_on_redis_nought_is_the_highest_priority": ("WB403",),
    },
}

# code -> why no test makes it happen
NOT_SHOWN = {
    "WB312": "it is about RabbitMQ before 4.3, and the tests run on 4.3: they show that 9 comes before 6 there",
}


def test_every_rule_is_proven_or_says_why_not() -> None:
    proven = [code for tests in PROVEN.values() for codes in tests.values() for code in codes]
    assert sorted([*proven, *NOT_SHOWN]) == sorted(RULES)


@pytest.mark.parametrize("module", PROVEN)
def test_the_tests_are_there_and_name_their_rules(module: str) -> None:
    text = (ROOT / "tests" / "rules" / f"{module}.py").read_text(encoding="utf-8")
    functions = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    for test, codes in PROVEN[module].items():
        assert test in functions
        for code in codes:
            assert code in text, f"{module} says nothing of {code}"
