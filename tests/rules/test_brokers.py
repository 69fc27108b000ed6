"""What rules say of other brokers, happens: a RabbitMQ that denies what is deprecated, and Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from amqp.exceptions import InternalError
from kombu import Connection, Queue
from testcontainers.community.rabbitmq import RabbitMqContainer

from tests.support import check_example
from waybill.check import RULES, Facts, check, facts_of
from waybill.rabbitmq.management import Management
from waybill.rabbitmq.state import live_facts
from waybill.testing.brokers import AMQP_PORT, IMAGE, MANAGEMENT_PORT, Address

STRICT = b"deprecated_features.permit.transient_nonexcl_queues = false\n"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_example.isolate(monkeypatch, tmp_path)


@contextmanager
def strict_broker() -> Iterator[Address]:
    """A RabbitMQ that denies transient queues."""
    made = RabbitMqContainer(IMAGE).with_copy_into_container(STRICT, "/etc/rabbitmq/conf.d/30-strict.conf")
    made.ports = dict.fromkeys((AMQP_PORT, MANAGEMENT_PORT), ("127.0.0.1", None))
    with made:
        host = made.get_container_host_ip()
        amqp, http = (made.get_exposed_port(port) for port in (AMQP_PORT, MANAGEMENT_PORT))
        yield Address(f"amqp://guest:guest@{host}:{amqp}/%2F", f"http://guest:guest@{host}:{http}")


@pytest.mark.usefixtures("docker_engine")
def test_a_broker_that_denies_transient_queues(tmp_path: Path) -> None:
    """WB205: the declaration is refused with 541, and the finding is an error."""
    with strict_broker() as address:
        with check_example.standing(address, RULES["WB205"].failing, tmp_path) as rig:
            assert rig.address.management_url is not None
            with Management(rig.address.management_url, rig.address.vhost) as management:
                facts = Facts(facts_of(rig.app), None, live_facts(management, rig.address.vhost))
            (finding,) = check(facts, select=["WB205"]).findings
            assert finding.severity.word == "error"
            with pytest.raises(InternalError, match="INTERNAL_ERROR"):
                rig.declare()
        with check_example.standing(address, RULES["WB205"].fixed, tmp_path) as rig:
            rig.declare()


def test_on_redis_nought_is_the_highest_priority(redis_url: str) -> None:
    """WB403."""
    with Connection(redis_url) as connection:
        queue = Queue("wb403")(connection.default_channel)
        queue.declare()
        for priority in (9, 0):
            connection.Producer().publish(priority, routing_key="wb403", priority=priority)
        assert [queue.get(no_ack=True).payload for _ in range(2)] == [0, 9]
