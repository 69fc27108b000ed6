"""Dead-lettering: the history that a dead letter carries, and the cycle that ends one.

After RabbitMQ 4.3 (mc.erl `record_death` and `is_death_cycle`, mc_amqpl.erl for the headers). The history is the
broker's own: `x-death` headers that a client publishes are shown to consumers as they came, count for nothing, and
give way to the broker's at the first death.
"""

from __future__ import annotations

from waybill.broker import tables
from waybill.broker.message import Death, Message
from waybill.broker.properties import headers_of, with_headers

REJECTED = "rejected"
EXPIRED = "expired"
MAXLEN = "maxlen"
DELIVERY_LIMIT = "delivery_limit"

_OWN = frozenset(
    {"x-death"} | {f"x-{when}-death-{what}" for when in ("first", "last") for what in ("exchange", "queue", "reason")}
)


def bury(
    message: Message,
    queue: str,
    reason: str,
    exchange: str,
    key: str | None,
    wall: float,
    *,
    failures: int,
) -> Message:
    """The message as it goes to the dead-letter exchange.

    Args:
        queue: the queue it leaves.
        exchange: the dead-letter exchange.
        key: the dead-letter routing key, or None where the message keeps its own.
        wall: seconds since 1970.
        failures: of its deliveries so far.
    """
    deaths = record(message, queue, reason, wall)
    keys = (key,) if key is not None else message.all_keys
    address = tables.short_string(exchange) + tables.short_string(keys[0])
    return Message(
        exchange,
        keys[0],
        address,
        _rewritten(message, deaths),
        message.body,
        message.priority,
        None,
        message.is_persistent,
        keys if len(keys) > 1 else None,
        message.hidden,
        deaths,
        failures,
        message.properties_size,
    )


def record(message: Message, queue: str, reason: str, wall: float) -> tuple[Death, ...]:
    """The message's deaths with this one, newest first."""
    for place, death in enumerate(message.deaths):
        if death.queue == queue and death.reason == reason:
            return (death.again(), *message.deaths[:place], *message.deaths[place + 1 :])
    shown = list(message.all_keys)
    for key in message.hidden:
        if key in shown:
            shown.remove(key)
    new = Death(queue, reason, message.exchange, tuple(shown), int(wall), message.expiration)
    return (new, *message.deaths)


def is_cycle(deaths: tuple[Death, ...], queue: str) -> bool:
    """Whether a message with these deaths, sent to `queue`, goes round without a client's rejection."""
    for place, death in enumerate(deaths):
        if death.queue == queue:
            return all(passed.reason != REJECTED for passed in deaths[: place + 1])
    return False


def _rewritten(message: Message, deaths: tuple[Death, ...]) -> bytes:
    kept = [(name, field.raw) for name, field in headers_of(message.header).items() if name not in _OWN]
    history = tables.array(_entry(death) for death in deaths)
    first = message.deaths[-1] if message.deaths else deaths[0]
    if message.deaths:
        first = _first(message)
    # A death that happens again keeps its first exchange in the history, and names the latest here.
    ends = (*_ends("first", first, first.exchange), *_ends("last", deaths[0], message.exchange))
    entries = [*kept, ("x-death", history), *ends]
    return with_headers(message.header, entries, expiration=None)


def _first(message: Message) -> Death:
    # The first death may have happened again since and so stand anywhere in the list: its headers remember it.
    found = headers_of(message.header)
    queue, reason = found["x-first-death-queue"].value, found["x-first-death-reason"].value
    return next(death for death in message.deaths if death.queue == queue and death.reason == reason)


def _ends(which: str, death: Death, exchange: str) -> list[tuple[str, bytes]]:
    return [
        (f"x-{which}-death-exchange", tables.long_string(exchange)),
        (f"x-{which}-death-queue", tables.long_string(death.queue)),
        (f"x-{which}-death-reason", tables.long_string(death.reason)),
    ]


def _entry(death: Death) -> bytes:
    entries = [
        ("count", tables.long_integer(death.count)),
        ("reason", tables.long_string(death.reason)),
        ("queue", tables.long_string(death.queue)),
        ("time", tables.timestamp(death.first)),
        ("exchange", tables.long_string(death.exchange)),
        ("routing-keys", tables.array(map(tables.long_string, death.keys))),
    ]
    if death.expiration is not None:
        entries.insert(0, ("original-expiration", tables.long_string(str(death.expiration))))
    return tables.table(entries)
