"""The examples of the public names that need a broker."""

from __future__ import annotations

import pytest

from tests.support.public_names import run_example
from waybill.testing.brokers import Address


@pytest.mark.parametrize("name", ["Broker", "Faults", "bulk_publish", "use_broker"])
def test_an_example_does_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example(name, monkeypatch)


def test_the_example_of_compare(rabbitmq: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("compare", monkeypatch, {"MANAGEMENT_URL": rabbitmq.management_url})
