"""pytest-django's test databases, for workers that run tasks: without this they would use the project's own."""

from __future__ import annotations

import json
import sys

import pytest

from waybill.pytest_plugin.failures import refusal
from waybill.testing.workers.receiver import DATABASES


def variables(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variable that names the test databases; none in a project without Django and pytest-django."""
    if "django.db" not in sys.modules or not request.config.pluginmanager.hasplugin("django"):
        return {}
    request.getfixturevalue("django_db_setup")
    from django.db import connections

    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}
    for alias, name in names.items():
        if "mode=memory" in name or name == ":memory:":
            raise refusal(
                f"the test database `{alias}` is in this process's memory, and the workers are other processes: give "
                f'it a file, DATABASES[{alias!r}]["TEST"] = {{"NAME": "test.sqlite3"}}, or let them receive only'
            )
    return {DATABASES: json.dumps(names)}
