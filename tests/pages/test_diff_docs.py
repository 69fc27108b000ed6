"""docs/diff.md cannot rot: its two applications, one after the other, give the output that it shows.

`python -m tests.pages.test_diff_docs` writes that output anew, on the RabbitMQ that `BROKER` names.
"""

from __future__ import annotations

import os
import re
import runpy
import tempfile
from pathlib import Path

from tests.support.diff_support import Site, site
from tests.support.programs import ROOT, module
from waybill import provision
from waybill.provision import Address

PAGE = ROOT / "docs" / "diff.md"
APPLICATION = re.compile(r"<!-- shop.py -->\n```python\n(.*?)```\n", re.DOTALL)
SHOWN = re.compile(r"(?<=```console\n\$ waybill -A shop diff\n).*?(?=```\n)", re.DOTALL)


def printed(at: Site, folder: Path) -> str:
    """What the command says of the second application where the first was declared; the vhost is called `shop`."""
    path = folder / "shop.py"
    before, now = APPLICATION.findall(PAGE.read_text(encoding="utf-8"))
    path.write_text(before)
    for queue in runpy.run_path(str(path))["app"].amqp.queues.values():
        assert at.declare(queue) is None
    path.write_text(now)
    management = str(at.address.management_url)
    variables = {
        **provision.environment(at.address.url),
        "WAYBILL_MANAGEMENT_URL": management,
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
    }
    result = module("waybill", "-A", "shop", "diff", environment=variables)
    assert (result.code, result.err) == (1, "")
    shown = management.rpartition("@")[2]
    return result.out.replace(at.address.vhost, "shop").replace(shown, "127.0.0.1:15672")


def test_the_page_shows_what_is_printed(rabbitmq: Address, tmp_path: Path) -> None:
    with site(rabbitmq) as at:
        (shown,) = SHOWN.findall(PAGE.read_text(encoding="utf-8"))
        assert printed(at, tmp_path) == shown


def main() -> None:
    """Write the page."""
    with provision.broker(provision.choice()) as address, site(address) as at, tempfile.TemporaryDirectory() as folder:
        text = printed(at, Path(folder))
        PAGE.write_text(SHOWN.sub(lambda _: text, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
