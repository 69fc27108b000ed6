"""The live map in a browser: what was published is on it, by name and by way, and nothing of it is markup."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.support.programs import PATIENCE, until

pytest.importorskip("selenium")

from selenium.webdriver.common.keys import Keys

from tools import pictures

MARKUP = "<b>queue</b> \u202ertl"
"""A queue's name that a careless page would run."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not Path(pictures.DRIVER).exists():
        pytest.skip(f"no browser: {pictures.DRIVER} is not there")
    with pictures.browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """The page, with three publications: to two queues, to one, to none."""
    command = [sys.executable, "-m", "waybill", "live", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            broker, url = (process.stderr.readline().split()[1] for _ in range(2))
            amqp = broker.replace("amqp://", "amqp://guest:guest@") + "%2F"
            browser.set_window_size(1280, 800)
            browser.get(url)
            with closing(pika.BlockingConnection(pika.URLParameters(amqp))) as connection:
                channel = connection.channel()
                channel.exchange_declare("news", "topic")
                for queue, key in (("usa", "usa.#"), ("world", "*.news"), (MARKUP, "x")):
                    channel.queue_declare(queue)
                    channel.queue_bind(queue, "news", key)
                until(lambda: len(found(browser, "#map .queue")) == 3)
                for key in ("usa.news", "usa", "eu"):
                    headers = {"task": "shop.report", "id": f"id of {key}", "origin": "gen1@web"}
                    channel.basic_publish("news", key, b"m", pika.BasicProperties(headers=headers))
                until(lambda: len(found(browser, "#list li")) == 3 and found(browser, "#lost-list li"))
                yield browser
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def found(driver: Any, selector: str) -> list[Any]:
    listed: list[Any] = driver.find_elements("css selector", selector)
    return listed


def texts(driver: Any, selector: str) -> list[str]:
    return [one.get_attribute("textContent") for one in found(driver, selector)]


def test_each_message_with_its_way(page: Any) -> None:
    assert texts(page, "#list .way") == [
        "news  eu → no queue",
        "news  usa → usa",
        "news  usa.news → usa, world",
    ]
    assert texts(page, "#list .state") == ["✗ nobody", "waits", "waits"]
    assert texts(page, "#lost-list .way") == ["news  eu → no queue"]


def test_the_edges_that_were_gone_along(page: Any) -> None:
    until(lambda: len(found(page, "#map .edge.used")) == 3)  # from the publisher, to usa, to world
    assert len(found(page, "#map .edge")) == 4


def test_a_name_is_text(page: Any) -> None:
    assert any(text.startswith("<b>queue</b>") for text in texts(page, "#map .queue text"))
    assert not found(page, "#map b")


def test_a_message_opens(page: Any) -> None:
    found(page, "#lost-list button")[0].click()
    until(lambda: bool(found(page, "#details[open]")))
    told = found(page, "#details")[0].text
    assert "first word is `eu`, the binding wants `usa`" in told
    assert "bind a queue to 'news' with a key that takes 'eu'" in told
    assert "message=" in page.current_url
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(lambda: not found(page, "#details[open]"))


def test_what_is_tried_is_lit(page: Any) -> None:
    for name, value in (("exchange", "news"), ("key", "us.news")):
        found(page, f"#try [name={name}]")[0].send_keys(value)
    found(page, "#try [type=submit]")[0].click()
    until(lambda: texts(page, "#tried") == ["reaches world"])
    assert len(found(page, "#map .edge.lit")) == 1
    assert len(found(page, "#list li")) == 3  # nothing was published


def test_the_keys(page: Any) -> None:
    body = found(page, "body")[0]
    page.execute_script("document.activeElement.blur()")
    body.send_keys("/")
    page.switch_to.active_element.send_keys("state:unroutable")
    until(lambda: len(found(page, "#list li")) == 1)
    assert "filter=state" in page.current_url
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.execute_script("document.activeElement.blur()")
    body.send_keys("p")
    assert found(page, "#pause")[0].get_attribute("aria-pressed") == "true"
    body.send_keys("p")
    body.send_keys("?")
    assert found(page, "#help[open]")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.refresh()  # what was filtered is filtered again, and the messages are there
    until(lambda: len(found(page, "#list li")) == 1)


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_is_wider_than_the_window(page: Any, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_browser_had_nothing_to_say(page: Any) -> None:
    assert [entry["message"] for entry in page.get_log("browser")] == []
