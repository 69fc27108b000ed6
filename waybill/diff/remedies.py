"""What to do about a declaration that the broker refuses, as code and commands.

What exists cannot be declared differently. So either the code declares what exists, or what is wanted gets another name
and the old one is drained and deleted; a queue that is empty may be deleted at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from waybill.diff.plan import Failure
from waybill.rabbitmq.state import LiveFacts
from waybill.topology import Binding, Exchange, Queue
from waybill.topology.queue_arguments import with_default_type
from waybill.topology.text import literal

Way = tuple[str, ...]
"""What it is, then lines of code and commands."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where commands are given.

    Attributes:
        app: as `celery -A` takes it.
        management: the management API's address, without user and password.
    """

    app: str
    management: str


def remedies_for(failure: Failure, live: LiveFacts, place: Place) -> tuple[Way, ...]:
    """The ways out of a failure, the gentlest first."""
    item = failure.item
    if isinstance(item, Queue) and item.name in live.queues:
        return tuple(_of_queue(failure, item, live, place))
    if isinstance(item, Exchange) and item.name in live.exchanges and failure.argument:
        return tuple(_of_exchange(item, live, place))
    if isinstance(item, Binding) or failure.reply_code == 406:
        return (("change the declaration: the sentence says what is wrong with it",),)
    if failure.reply_code == 541:
        return (("keep it, or let it expire", f"Queue({literal(item.name)}, ..., durable=True, expires=3600)"),)
    return ((f"let somebody declare it: take no_declare from `{item.name}`",),)


def _of_queue(failure: Failure, queue: Queue, live: LiveFacts, place: Place) -> Iterator[Way]:
    lives = live.queues[queue.name]
    if lives.exclusive:
        yield ("end the worker that holds it: an exclusive queue belongs to one connection",)
        return
    policy = policy_that_sets(failure.argument, lives, live)
    note = f"; the policy `{policy[0]}` gives it {policy[1]} anyway" if policy else ""
    yield f"match it{note}", queue_code(lives, live.default_queue_type)
    messages = live.messages.get(queue.name) or 0
    delete = _delete("queues", lives.name, live.vhost, place, lives.type != "quorum")
    look = f"rabbitmqctl list_queues -p {shlex.quote(live.vhost)} name messages"
    if not messages:
        yield "or delete it while it is empty: the next worker creates it anew", look, delete
    new, name = f"{queue.name}.v2", shlex.quote(queue.name)
    yield (
        "or declare another, drain the old one and delete it",
        f"Queue({literal(new)}, ...), and beside it Queue({literal(queue.name)}, no_declare=True) until it is empty",
        f"celery -A {shlex.quote(place.app)} worker -Q {name}",
        *((look,) if messages else ()),
        delete,
    )


def _of_exchange(exchange: Exchange, live: LiveFacts, place: Place) -> Iterator[Way]:
    lives = live.exchanges[exchange.name]
    if not lives.internal:
        yield "match it", exchange_code(lives)
    yield (
        "or declare another, and delete the old one when nobody publishes to it",
        f"Exchange({literal(exchange.name + '.v2')}, {literal(exchange.type)}, ...)",
        _delete("exchanges", exchange.name, live.vhost, place, False),
    )


def _delete(kind: str, name: str, vhost: str, place: Place, is_conditional: bool) -> str:
    """RabbitMQ checks the conditions itself, except for quorum queues, which know none."""
    path = f"{place.management}/api/{kind}/{quote(vhost, safe='')}/{quote(name, safe='')}"
    return f"curl -u USER -X DELETE {shlex.quote(path + ('?if-empty=true&if-unused=true' if is_conditional else ''))}"


def queue_code(queue: Queue, default_type: str) -> str:
    """The queue on the broker, as code; its exchange and binding keys are left to `...`."""
    arguments = dict(queue.arguments)
    plain = Queue(queue.name, queue.durable, False, queue.auto_delete)
    if arguments.get("x-queue-type") == with_default_type(plain, default_type).type:
        del arguments["x-queue-type"]  # it becomes that without being told
    return f"Queue({_called(queue, ('...',), arguments, 'queue_arguments')})"


def exchange_code(exchange: Exchange) -> str:
    """The exchange on the broker, as code."""
    return f"Exchange({_called(exchange, (literal(exchange.type),), exchange.arguments, 'arguments')})"


def _called(item: Exchange | Queue, given: tuple[str, ...], arguments: Mapping[str, Any], option: str) -> str:
    flags = [] if item.durable else ["durable=False"]
    flags += ["auto_delete=True"] if item.auto_delete else []
    flags += [f"{option}={literal(arguments)}"] if arguments else []
    return ", ".join([literal(item.name), *given, *flags])


def policy_that_sets(argument: str | None, queue: Queue, live: LiveFacts) -> tuple[str, str] | None:
    """The policy that sets such an argument for the queue, and what it sets, `message-ttl=5`."""
    key = (argument or "").removeprefix("x-")
    setting = live.policies.setting_for(queue)
    return (live.policies.who_sets(key, queue), f"{key}={setting[key]}") if key in setting else None
