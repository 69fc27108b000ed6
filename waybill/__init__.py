"""Know where every Celery task goes on RabbitMQ: before you publish it, while it flows, and in your tests.

The names in `__all__` are the public API, described in docs/reference/api.md. Everything else is internal and may
change with any version. Each name is imported when it is first used: `import waybill` itself loads nothing.

Example:
    >>> import waybill
    >>> waybill.__version__
    '0.1.0'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waybill.broker import Broker, Faults
    from waybill.check import check_app
    from waybill.diff import compare
    from waybill.errors import BulkPublishError, WaybillError
    from waybill.explain import explain_task
    from waybill.publishing import Outcome, bulk_publish
    from waybill.routing import Router
    from waybill.testing.brokers import use_broker
    from waybill.testing.receipts import enable_receipts
    from waybill.testing.watch import Watch
    from waybill.topology import Message, Topology

    __version__: str

__all__ = [
    "Broker",
    "BulkPublishError",
    "Faults",
    "Message",
    "Outcome",
    "Router",
    "Topology",
    "Watch",
    "WaybillError",
    "__version__",
    "bulk_publish",
    "check_app",
    "compare",
    "enable_receipts",
    "explain_task",
    "use_broker",
]

if not TYPE_CHECKING:  # a type checker would take it for an attribute of any name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            found: object = import_module("importlib.metadata").version("waybill")
        elif name in _HOMES:
            found = getattr(import_module(f"waybill.{_HOMES[name]}"), name)
        else:
            raise AttributeError(f"module 'waybill' has no attribute {name!r}")
        globals()[name] = found
        return found


_HOMES = {
    "Broker": "broker",
    "BulkPublishError": "errors",
    "Faults": "broker",
    "Message": "topology",
    "Outcome": "publishing",
    "Router": "routing",
    "Topology": "topology",
    "Watch": "testing.watch",
    "WaybillError": "errors",
    "bulk_publish": "publishing",
    "check_app": "check",
    "compare": "diff",
    "enable_receipts": "testing.receipts",
    "explain_task": "explain",
    "use_broker": "testing.brokers",
}


def __dir__() -> list[str]:
    return __all__
