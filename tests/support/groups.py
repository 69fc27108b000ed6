"""Which tests run in one process: those that share a fleet, or a module's setup. Unit tests share nothing.

pytest-xdist's own groups are a suffix of the node id, which pytest 9.2 no longer keeps: there they do nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

# Where the session's fleet is used, one for each broker.
SHOWCASE = ("tests/workers/showcase/", "tests/pages/test_readme.py")
BROKERS = ("embedded", "rabbitmq")


def group_of(nodeid: str) -> str:
    """The group of a test: tests of one group run in one process, in their order."""
    path, _, name = nodeid.partition("::")
    if path.startswith("tests/unit/"):
        return nodeid
    broker = next((one for one in BROKERS if f"[{one}" in name.lower()), "")
    if broker and path.startswith(SHOWCASE):
        return f"showcase {broker}"
    return f"{path} {broker}"


class GroupedTests:
    """A plugin of pytest that hands out whole groups."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        from xdist.scheduler import LoadScopeScheduling

        class Groups(LoadScopeScheduling):
            def _split_scope(self, nodeid: str) -> str:
                return group_of(nodeid)

        return Groups(config, log)
