"""The output in docs/reference/diff.md, which its two applications give, one after the other.

`python -m tools.diff_page` writes it anew, on the RabbitMQ that `BROKER` names; the test only compares.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import tempfile
from pathlib import Path

from tests.support.diff_support import Site, site
from tests.support.programs import ROOT, module
from waybill.testing import brokers

PAGE = ROOT / "docs" / "reference" / "diff.md"
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
        **brokers.environment(at.address.url),
        "WAYBILL_MANAGEMENT_URL": management,
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
    }
    result = module("waybill", "-A", "shop", "diff", environment=variables)
    assert (result.code, result.err) == (1, "")
    shown = management.rpartition("@")[2]
    return result.out.replace(at.address.vhost, "shop").replace(shown, "127.0.0.1:15672")


def main() -> None:
    """Write the page."""
    about = "Write the output in docs/reference/diff.md anew, on the RabbitMQ that BROKER names."
    argparse.ArgumentParser(prog="python -m tools.diff_page", description=about).parse_args()
    with brokers.broker(brokers.choice()) as address, site(address) as at, tempfile.TemporaryDirectory() as folder:
        text = printed(at, Path(folder))
        PAGE.write_text(SHOWN.sub(lambda _: text, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
