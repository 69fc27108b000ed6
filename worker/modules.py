"""The modules that register tasks and signal handlers: every worker imports them before it starts."""

from __future__ import annotations

MODULES = [
    "worker.tasks",
    "worker.calling",
    "worker.waiting",
    "worker.canvas",
    "worker.reliability",
    "worker.signalled",
    "worker.control",
    "worker.metered",
    "worker.signals",
]
