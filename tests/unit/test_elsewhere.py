"""What stands in the comparison of brokers, and what it refuses."""

from __future__ import annotations

from tests.support.choosing import documented
from tests.support.programs import call


def test_the_embedded_broker_does_all_that_rabbitmq_does() -> None:
    assert documented()["embedded"] == documented()["RabbitMQ"]


def test_every_lesson_holds_on_the_others() -> None:
    """That it does, the tour's own tests show."""
    table = documented("lessons")
    assert set(table) == {"RabbitMQ", "embedded", "Redis"}
    assert {*table["RabbitMQ"].values(), *table["embedded"].values()} == {"holds"}


def test_the_memory_transport_has_no_workers() -> None:
    result = call("tools.elsewhere", "--lessons", "memory://")
    assert "its queues are in one process" in result.complaint
    assert (result.code, result.out) == (2, "")
