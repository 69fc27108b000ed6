"""The pictures of docs/lessons: those of watching.md from the running stack after a tour, and the topology.

docker compose --profile watching up --detach --build --wait
python -m publishers --broker amqp://guest:guest@127.0.0.1:5672//
pip install '.[screenshots]'    # and a Chromium with its driver, such as Debian's chromium-driver
python -m tools.pictures
python -m tools.pictures --mermaid node_modules/mermaid/dist/mermaid.min.js    # after npm install mermaid
"""

from __future__ import annotations

import argparse
import base64
import html
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium import webdriver

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
DRIVER = "/usr/bin/chromedriver"
MANAGEMENT = "http://127.0.0.1:15672"
FLOWER = "http://127.0.0.1:5555"

# Pixels, and seconds in which a page has to show what is waited for.
WIDTH, TALLEST = 1240, 780
PAGE_TIMEOUT = 60.0

# File -> the page, which sections of it are unfolded, and a text that stands there when it is complete
PAGES: dict[str, tuple[str, Mapping[str, bool], str]] = {
    "exchanges": (f"{MANAGEMENT}/#/exchanges", {}, "payments.unknown"),
    "exchange": (f"{MANAGEMENT}/#/exchanges/%2F/news", {"Overview": True, "Bindings": True}, "usa.weather"),
    "queue": (
        f"{MANAGEMENT}/#/queues/%2F/images",
        {"Overview": False, "Consumers": True, "Bindings": True},
        "media.image",
    ),
    "flower": (f"{FLOWER}/workers", {}, "videos@"),
}

MERMAID = """\
<script src="{source}"></script>
<body style="width: 1400px"><pre class="mermaid">{text}</pre>
<script>
  mermaid.initialize({{startOnLoad: false}});
  mermaid.run().then(() => document.title = "drawn");
</script>
"""

IS_FOLDED = "return arguments[0].parentElement.classList.contains('section-invisible')"


def main() -> None:
    """Take every picture anew; with `--mermaid` only the one of the topology."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__, formatter_class=form)
    parser.add_argument("--mermaid", type=Path, metavar="FILE", help="Mermaid's mermaid.min.js")
    mermaid: Path | None = parser.parse_args().mermaid
    with browser() as driver:
        if mermaid is not None:
            (PICTURES / "topology.png").write_bytes(drawn(driver, mermaid))
            return
        log_in(driver)
        for name, (url, sections, text) in PAGES.items():
            show(driver, url, sections, text)
            (PICTURES / f"{name}.png").write_bytes(picture(driver))


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A Chromium without a window."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={WIDTH},{TALLEST}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def drawn(driver: webdriver.Chrome, mermaid: Path) -> bytes:
    """The showcase's topology, as Mermaid draws it."""
    from selenium.webdriver.support.wait import WebDriverWait

    text = html.escape((PICTURES / "topology.mmd").read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        page = Path(folder, "topology.html")
        page.write_text(MERMAID.format(source=mermaid.resolve().as_uri(), text=text), encoding="utf-8")
        driver.get(page.as_uri())
        WebDriverWait(driver, PAGE_TIMEOUT).until(lambda at: at.title == "drawn")
        size = driver.find_element("css selector", ".mermaid svg").rect
    clip = {**{name: size[name] for name in ("x", "y", "width", "height")}, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return base64.b64decode(taken["data"])


def log_in(driver: webdriver.Chrome) -> None:
    """As guest."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support import expected_conditions as expected
    from selenium.webdriver.support.wait import WebDriverWait

    driver.get(MANAGEMENT)
    wait = WebDriverWait(driver, PAGE_TIMEOUT)
    wait.until(expected.element_to_be_clickable((By.NAME, "username"))).send_keys("guest")
    driver.find_element(By.NAME, "password").send_keys("guest")
    driver.find_element(By.CSS_SELECTOR, "input[type=submit]").click()
    wait.until(expected.presence_of_element_located((By.LINK_TEXT, "Exchanges")))


def show(driver: webdriver.Chrome, url: str, sections: Mapping[str, bool], text: str) -> None:
    """Open a page and unfold what is to be seen of it."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support import expected_conditions as expected
    from selenium.webdriver.support.wait import WebDriverWait

    driver.get("about:blank")  # else only the part behind the `#` changes, and the last page's headings are found
    driver.get(url)
    wait = WebDriverWait(driver, PAGE_TIMEOUT)
    for section, is_unfolded in sections.items():
        wait.until(expected.presence_of_element_located(heading(section)))
        if is_unfolded == driver.execute_script(IS_FOLDED, driver.find_element(*heading(section))):
            driver.execute_script("arguments[0].click()", driver.find_element(*heading(section)))
    wait.until(expected.text_to_be_present_in_element((By.TAG_NAME, "body"), text))


def heading(section: str) -> tuple[str, str]:
    """Where the heading of a section is found."""
    return "xpath", f"//h2[starts-with(normalize-space(), '{section}')]"


def picture(driver: webdriver.Chrome) -> bytes:
    """The page as a PNG, from its top, as high as it is or as may be."""
    driver.execute_script("window.scrollTo(0, 0)")
    height = min(TALLEST, driver.execute_script("return document.body.scrollHeight"))
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    main()
