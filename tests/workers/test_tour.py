"""The tour on a broker without workers: it starts the fleet, and leaves no process behind."""

from __future__ import annotations

import pytest

from publishers.__main__ import LESSONS
from tests.support.programs import module, processes_with
from waybill.testing import brokers
from waybill.testing.brokers import Address

# All lessons on the embedded broker; on RabbitMQ, where the lessons' own tests play them too, two.
SHORT = ("topic", "fanout")


def test_the_tour_starts_and_stops_the_fleet(waybill_vhost: Address) -> None:
    is_embedded = waybill_vhost.is_embedded
    result = module("publishers", *(() if is_embedded else SHORT), environment={"BROKER": waybill_vhost.url})
    assert result.code == 0, result.err
    assert f"{len(LESSONS) if is_embedded else len(SHORT)} lessons in " in result.out
    assert "17 workers are ready" in result.err
    assert list(processes_with("BROKER", waybill_vhost.url)) == []
    assert "images1 images2 mail orders quick standalone ticker usa videos world" in result.out


def test_a_worker_that_cannot_start_ends_the_tour(waybill_vhost: Address) -> None:
    result = module("publishers", environment={"BROKER": waybill_vhost.url, "WAYBILL_RESULT_BACKEND": "nosuch://"})
    assert result.code == 2
    assert "ended with exit code" in result.err
    assert len(result.err.splitlines()) == 1  # that says why it ended
    assert list(processes_with("BROKER", waybill_vhost.url)) == []


def test_a_publisher_says_when_nobody_consumes_a_queue(waybill_vhost: Address) -> None:
    result = module("publishers.topic", "usa.news", environment={"WAYBILL_BROKER_URL": waybill_vhost.url})
    assert result.code == 0
    assert "nobody (usa_all: no worker consumes it), nobody (all_news: no worker consumes it)" in result.out


def test_a_publisher_alone_brings_up_what_its_lesson_needs() -> None:
    (line,) = module("publishers.direct", "video", "--json").objects
    assert [one["queue"] for one in line["received"]] == ["videos"]


@pytest.mark.usefixtures("docker_engine")
def test_without_the_plugins_their_lessons_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "PLUGINS", ("rabbitmq_management",))
    with brokers.broker(brokers.DOCKER) as bare:
        result = module("publishers", "topic", "history", "shards", environment={"BROKER": bare.url})
        alone = module("publishers.history", environment={"BROKER": bare.url})
    assert "2 workers are ready" in result.err
    assert "skipped: this broker has no exchange type 'x-recent-history'" in result.err
    assert "skipped: this broker has no exchange type 'x-consistent-hash'" in result.err
    assert "rabbitmq_consistent_hash_exchange" in result.err
    assert (result.code, alone.code) == (0, 0)
    assert "skipped" in alone.complaint
