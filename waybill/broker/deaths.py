"""Dead-lettering: the history that a dead letter carries.

After RabbitMQ 4.3 (mc.erl `record_death`, mc_amqpl.erl for the headers). The history is the broker's own: `x-death`
headers that a client publishes are shown to consumers as they came, count for nothing, and give way to the broker's at
the first death. Which deaths end a cycle is a matter of routing: `waybill.routing.dead_letters`.
"""

from __future__ import annotations

from waybill.broker import tables
from waybill.broker.message import Death, Message
from waybill.broker.properties import headers_of, with_headers
from waybill.routing.dead_letters import Reason, death_headers


def dead_letter(
    message: Message,
    queue: str,
    reason: Reason,
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
    return Message(
        exchange=exchange,
        routing_key=keys[0],
        address=tables.short_string(exchange) + tables.short_string(keys[0]),
        header=_rewritten(message, deaths),
        body=message.body,
        priority=message.priority,
        expiration=None,
        keys=keys if len(keys) > 1 else None,
        hidden=message.hidden,
        deaths=deaths,
        failures=failures,
        first_size=message.properties_size,
    )


def record(message: Message, queue: str, reason: Reason, wall: float) -> tuple[Death, ...]:
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


def _rewritten(message: Message, deaths: tuple[Death, ...]) -> bytes:
    entries = {name: field.raw for name, field in headers_of(message.header).items()}
    entries["x-death"] = tables.array(_entry(death) for death in deaths)
    # A death that happens again keeps its first exchange in the history, and names the latest in these.
    ends = death_headers(deaths[0].queue, deaths[0].reason, message.exchange, is_first=not message.deaths)
    entries |= {name: tables.long_string(value) for name, value in ends.items()}
    return with_headers(message.header, list(entries.items()), expiration=None)


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
