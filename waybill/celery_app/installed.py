"""The names that a supported version may lack, and Waybill's fallback.

Celery and Kombu 5.3 to 5.7 are supported. What came later, and Waybill asks about:

    from Celery 5.5 on   native delayed delivery: with a quorum queue in the application RabbitMQ keeps a delayed task
                         (`celery_delayed_27` down to `celery_delayed_0`); before, it waits in the worker
                         workers detect quorum queues, and set a per-consumer prefetch limit, which those need on
                         RabbitMQ before 4.3 (540 NOT_IMPLEMENTED, does not support global qos)

All of Waybill asks here, so that no other file imports what may be absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import celery
from kombu import Queue
from kombu.common import Broadcast

try:
    from celery.utils.quorum_queues import detect_quorum_queues
    from kombu.transport import native_delayed_delivery
except ImportError:  # Celery 5.3 and 5.4, also beside a Kombu that has its part
    detect_quorum_queues = native_delayed_delivery = None

CELERY_VERSION: str = celery.__version__
CELERY: tuple[int, int] = (int(celery.VERSION[0]), int(celery.VERSION[1]))

NATIVE_DELAY_FROM = (5, 5)
"""The Celery that brought native delayed delivery."""

HAS_NATIVE_DELAY: bool = native_delayed_delivery is not None
"""Whether the installed Celery can delay natively; an application does with a quorum queue (`delays_natively`)."""

DETECTS_QUORUM_QUEUES: bool = detect_quorum_queues is not None
"""Whether workers consume a quorum queue with a per-consumer prefetch limit, as RabbitMQ before 4.3 demands."""

DELAYED_DELIVERY_EXCHANGE: str = (
    native_delayed_delivery.CELERY_DELAYED_DELIVERY_EXCHANGE if HAS_NATIVE_DELAY else "celery_delayed_delivery"
)
"""To which exchange a native delay leads. On a broker it may exist whatever is installed here: others make it too."""


def since(version: tuple[int, int]) -> bool:
    """Whether the installed Celery is of this line or a later one."""
    return version <= CELERY


def delays_natively(app: Any) -> bool:
    """Whether RabbitMQ keeps the application's delayed tasks: Celery's own answer, False where it has no such thing."""
    return detect_quorum_queues is not None and bool(detect_quorum_queues(app, "amqp")[0])


@contextmanager
def settings_overridden(app: Any, settings: Mapping[str, Any]) -> Iterator[None]:
    """Within the block the application has these settings, whatever it was configured with.

    Afterwards it has its own again, and those that were set nowhere are set nowhere.
    """
    # Before Celery 5.7 a setting with the configuration's namespace (`CELERY_BROKER_URL`) wins over one that is
    # assigned without, so both are set.
    app.conf.get("broker_url")  # a configuration that nobody has read yet is read
    prefix = app.conf.prefix or ""
    prefixed = {prefix + (name.upper() if prefix.isupper() else name): value for name, value in settings.items()}
    ours = {**settings, **prefixed}
    changes = app.conf.changes
    before = {name: changes[name] for name in ours if name in changes}
    app.conf.update(ours)
    try:
        yield
    finally:
        for name in ours:
            changes.pop(name, None)
        changes.update(before)


def declare_delayed_delivery(connection: Any, queues: Iterable[Queue], queue_type: str) -> None:
    """Declare and bind what a worker does, in its `DelayedDelivery` step, which passes over `Broadcast`.

    Args:
        connection: a Kombu connection, or whatever takes its declarations.
        queue_type: the setting `broker_native_delayed_delivery_queue_type`.
    """
    native_delayed_delivery.declare_native_delayed_delivery_exchanges_and_queues(connection, queue_type)
    for queue in queues:
        if not isinstance(queue, Broadcast):
            native_delayed_delivery.bind_queue_to_native_delayed_delivery_exchange(connection, queue)
